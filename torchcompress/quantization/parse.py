"""Reading a program from JSON values that nobody vouches for."""

import re
from typing import Any

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.inner_grids import takes_inner
from torchcompress.quantization.kinds.checks import integer, is_bool, is_number
from torchcompress.quantization.kinds.pooling import is_mean_of_windows
from torchcompress.quantization.operations import KINDS, RESIDUAL_ACTIVATIONS, ROUNDED, STORED
from torchcompress.quantization.program import CallForm, Op, Program, QParams, Result

_VALUE = re.compile(r"v\d{1,9}")
_LAYER = re.compile(r"[^/\x00-\x1f]{1,400}")
_DEEPEST = 16
_CAN_OMIT_GRID = ("conv1d", "conv2d", "conv3d", "linear")
_CAN_BE_INT8 = (*_CAN_OMIT_GRID, "avg_pool2d", "global_avg_pool")


def _is_value(value: Any) -> bool:
    return type(value) is str and _VALUE.fullmatch(value) is not None


def parse_program(data: Any) -> Program:
    """Reads a program; nothing in it is believed.

    Args:
        data: What `Program.to_json` returned, or anything else.

    Raises:
        ArtifactError: Not a program of this version, with the place.
    """
    fields = _fields(data, ("inputs", "ops", "result", "call"), "program")
    _need(type(fields["ops"]) is list, "must be a list", "program.ops")
    inputs = [_parse_input(pair) for pair in _sequence(fields["inputs"], "program.inputs")]
    _need(len({name for name, _ in inputs}) == len(inputs) > 0, "names repeat", "program.inputs")
    ops = [_parse_op(op, f"program.ops[{n}]") for n, op in enumerate(fields["ops"])]
    _check_result(fields["result"], _DEEPEST)
    return Program(tuple(inputs), tuple(ops), fields["result"], _parse_call(fields["call"]))


def _parse_call(data: Any) -> CallForm | None:
    if data is None:
        return None
    fields = _fields(data, ("arguments", "constants"), "program.call")
    arguments, constants = fields["arguments"], fields["constants"]
    names = type(arguments) is list and all(_is_parameter(name) for name in arguments)
    _need(names and len(set(arguments)) == len(arguments), "names repeat", "program.call")
    plain = type(constants) is dict and all(
        is_number(v) or isinstance(v, bool | str | None) for v in constants.values()
    )
    _need(plain, "constants must be plain values", "program.call")
    return CallForm(tuple(arguments), constants)


def _is_parameter(name: Any) -> bool:
    return type(name) is str and name.strip("*=").isidentifier()


def _parse_input(pair: Any) -> tuple[str, str]:
    good = type(pair) is list and len(pair) == 2 and type(pair[0]) is str and _is_value(pair[1])
    _need(good, "must be [name, value]", "program.inputs")
    return pair[0], pair[1]


def _parse_op(data: Any, where: str) -> Op:
    keys = ("kind", "output", "inputs", "args", "layer", "name", "int8", "out", "inner")
    fields = _fields(data, keys, where)
    kind = fields["kind"]
    _need(type(kind) is str and kind in STORED, f"unknown kind {kind!r}", where)
    spec, inputs, layer = KINDS[kind], fields["inputs"], fields["layer"]
    _need(_is_value(fields["output"]), "output must be a value", where)
    _need(type(inputs) is list and all(map(_is_value, inputs)), "inputs must be values", where)
    args = _fields(fields["args"], tuple(spec.args), f"{where}.args")
    for key, check in spec.args.items():
        _need(check(args[key]), f"cannot be {args[key]!r}", f"{where}.args.{key}")
    flaw, tensors = spec.flaw(args), len(inputs) - spec.sizes(args)
    _need(flaw is None, str(flaw), where)
    fits = spec.operands[0] <= tensors <= spec.operands[1]
    _need(fits, f"{kind} with {len(inputs)} inputs", where)
    named = type(layer) is str and _LAYER.fullmatch(layer) is not None
    _need(named if spec.tensors else layer is None, f"layer cannot be {layer!r}", where)
    _need(type(fields["name"]) is str and len(fields["name"]) < 1000, "name must be text", where)
    _need(is_bool(fields["int8"]), "int8 must be true or false", where)
    out = _parse_grid(fields["out"], where)
    inner = _parse_grid(fields["inner"], where)
    names = (fields["output"], tuple(inputs))
    op = Op(kind, *names, args, layer, fields["name"], fields["int8"], out, inner)
    _check_op(op, where)
    return op


def _check_op(op: Op, where: str) -> None:
    """Checks what ties an op's fields to each other."""
    integer = op.int8 or op.kind == "quantize"
    rounded = integer or op.kind in ROUNDED
    _need(not op.int8 or op.kind in _CAN_BE_INT8, f"{op.kind} cannot be int8", where)
    _need(op.out is None or rounded, "a float op has no grid", where)
    _need(op.out is not None or not integer or op.kind in _CAN_OMIT_GRID, "needs a grid", where)
    _need(op.inner is None or takes_inner(op), "takes no inner grid", where)
    if op.kind == "conv2d" and len(op.inputs) == 2:
        _need(not op.int8 or op.out is not None, "an int8 sum needs a grid", where)
        _need(op.args["activation"] in RESIDUAL_ACTIVATIONS, "no such fused sum", where)
    if op.kind == "avg_pool2d" and op.int8:
        _need(is_mean_of_windows(op.args), "int8 pooling takes windows of one size", where)


def _parse_grid(value: Any, where: str) -> QParams | None:
    if value is None:
        return None
    good = type(value) is list and len(value) == 2 and is_number(value[0])
    good = good and 1e-38 < value[0] < 1e38 and integer(0, 255)(value[1])
    _need(good, f"{value!r} is not a uint8 grid", where)
    return QParams(float(value[0]), value[1])


def _check_result(result: Result | Any, depth: int) -> None:
    _need(depth > 0, "is nested too deeply", "program.result")
    if type(result) is dict:
        items = list(result.values())
    elif type(result) is list and result and result[0] in ("tuple", "list"):
        items = result[1:]
    elif type(result) is list and len(result) == 2 and result[0] == "OrderedDict":
        _need(type(result[1]) is dict, "must be a dict", "program.result")
        items = result[1:]
    elif result is None:
        return
    else:
        _need(_is_value(result), "must be values", "program.result")
        return
    for item in items:
        _check_result(item, depth - 1)


def _sequence(value: Any, where: str) -> list[Any]:
    _need(type(value) is list, "must be a list", where)
    return value


def _fields(data: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    _need(type(data) is dict and set(data) == set(keys), f"needs exactly {', '.join(keys)}", where)
    return data


def _need(met: bool, what: str, where: str) -> None:
    if not met:
        raise ArtifactError(what, where=where, hint="the file is damaged or of another version")
