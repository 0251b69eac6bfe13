from torchcompress.quantization.lower import lower, uint8_classes
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.ranges import range_classes
from torchcompress.quantization.value_types import infer_types

CONV = {"activation": None}
GRID = QParams(0.1, 3)


def kinds(program: Program) -> list[str]:
    infer_types(program)
    return [op.kind for op in program.ops]


def lowered(program: Program, int8: set[str]) -> Program:
    classes = range_classes(program)
    stored = uint8_classes(program, classes, int8)
    return lower(program, int8, {v: GRID for v, name in classes.items() if name in stored})[0]


def test_a_chain_crosses_once() -> None:
    ops = (
        Op("conv2d", "v1", ("v0",), CONV, "a"),
        Op("max_pool2d", "v2", ("v1",)),
        Op("conv2d", "v3", ("v2",), CONV, "b"),
    )
    program = lowered(Program((("x", "v0"),), ops, "v3"), {"v1", "v3"})
    assert kinds(program) == ["quantize", "conv2d", "max_pool2d", "conv2d"]
    assert [op.out for op in program.ops] == [GRID, GRID, None, None]


def test_a_gate_keeps_its_map_in_float_until_the_product() -> None:
    """Squeeze and excitation: the map goes to float32 once and comes back once."""
    ops = (
        Op("conv2d", "v1", ("v0",), CONV, "a"),
        Op("global_avg_pool", "v2", ("v1",), {"keepdim": True}),
        Op("conv2d", "v3", ("v2",), CONV, "b"),
        Op("activation", "v4", ("v3",), {"name": "hardsigmoid"}),
        Op("mul", "v5", ("v4", "v1")),
        Op("conv2d", "v6", ("v5",), CONV, "c"),
    )
    program = lowered(Program((("x", "v0"),), ops, "v6"), {"v1", "v3", "v6"})
    assert kinds(program) == [
        *["quantize", "conv2d", "global_avg_pool", "quantize", "conv2d", "activation"],
        *["mul", "conv2d"],
    ]
    assert program.ops[-2].out == GRID
    both = lowered(Program((("x", "v0"),), ops, ["tuple", "v6", "v5"]), {"v1", "v3", "v6"})
    assert kinds(both)[-3:] == ["mul", "quantize", "conv2d"]


def test_a_value_read_by_both_worlds_is_stored_once_and_converted_once() -> None:
    ops = (
        Op("conv2d", "v1", ("v0",), CONV, "a"),
        Op("conv2d", "v2", ("v1",), CONV, "b"),
        Op("activation", "v3", ("v1",), {"name": "sigmoid"}),
        Op("mul", "v4", ("v3", "v1")),
    )
    result = ["tuple", "v2", "v4", "v4", "v1"]
    program = lowered(Program((("x", "v0"),), ops, result), {"v1", "v2"})
    assert kinds(program).count("dequantize") == 1
    assert kinds(program).count("quantize") == 1


def test_pooling_goes_straight_to_the_grid_of_its_output() -> None:
    ops = (
        Op("conv2d", "v1", ("v0", "v0"), CONV, "a"),
        Op("global_avg_pool", "v2", ("v1",), {"keepdim": False}),
        Op("linear", "v3", ("v2",), CONV, "b"),
    )
    program = lowered(Program((("x", "v0"),), ops, "v3"), {"v1", "v3"})
    assert kinds(program) == ["quantize", "conv2d", "global_avg_pool", "linear"]
    assert program.ops[2].int8
