"""Which value of the train-mode program is which value of the eval-mode program."""

import json
from collections import defaultdict
from collections.abc import Mapping

from torchcompress.core.errors import TraceError
from torchcompress.quantization.program import Op, Program
from torchcompress.quantization.sources import AnySource


def match_values(
    trained: Program,
    trained_sources: Mapping[str, AnySource],
    evaluated: Program,
    evaluated_sources: Mapping[str, AnySource],
    where: str,
) -> dict[str, str]:
    """Finds the eval-mode program inside the train-mode one, which may also do more.

    Two values are the same where the same operation makes them of the same values; a dropout makes
    what it is given.

    Args:
        trained: As traced in train mode.
        trained_sources: Of its layers.
        evaluated: As traced in eval mode.
        evaluated_sources: Of its layers.
        where: The model, for the error.

    Returns:
        For each value of `trained` that `evaluated` has too, its id there.

    Raises:
        TraceError: Eval mode computes what train mode does not.
    """
    found: dict[str, str] = {}
    for (_, mine), (_, other) in zip(trained.inputs, evaluated.inputs, strict=False):
        found[mine] = other
    waiting: dict[str, list[str]] = defaultdict(list)
    for op in evaluated.ops:
        waiting[_meaning(op, op.inputs, evaluated_sources)].append(op.output)
    for op in trained.ops:
        if not all(value in found for value in op.inputs):
            continue
        operands = tuple(found[value] for value in op.inputs)
        if op.kind == "dropout":
            found[op.output] = operands[0]
            continue
        same = waiting[_meaning(op, operands, trained_sources)]
        if same:
            found[op.output] = same.pop(0)
    missed = set(found.values()).symmetric_difference(
        {value for _, value in evaluated.inputs} | {op.output for op in evaluated.ops}
    )
    for op in evaluated.ops:
        if op.output in missed:
            raise TraceError(
                "eval mode computes what train mode does not",
                where=f"{where}: {op.name}",
                hint="let train mode only add to the forward pass",
            )
    return found


def _meaning(op: Op, operands: tuple[str, ...], sources: Mapping[str, AnySource]) -> str:
    layer = None if op.layer is None else sources[op.layer].to_json()
    return json.dumps([op.kind, operands, op.args, layer], sort_keys=True)
