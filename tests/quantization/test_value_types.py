import pytest

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.value_types import infer_types

GRID = QParams(0.5, 7)
QUANTIZE = Op("quantize", "v1", ("v0",), out=GRID)
SIZE = Op("size", "v2", ("v1",), {"dim": 0})


def infer(*ops: Op, result: str = "v0") -> dict[str, object]:
    return dict(infer_types(Program((("x", "v0"),), ops, result)))


def test_types() -> None:
    conv = Op("conv2d", "v3", ("v1",), {}, "l", int8=True)
    assert infer(QUANTIZE, SIZE, conv, result="v3") == {
        "v0": "float",
        "v1": GRID,
        "v2": "size",
        "v3": "float",
    }


@pytest.mark.parametrize(
    ("ops", "match"),
    [
        ((Op("add", "v1", ("v0", "v9")),), "'v9' is read before it is made"),
        ((QUANTIZE, QUANTIZE), "'v1' is made twice"),
        ((Op("conv2d", "v2", ("v0",), {}, "l", int8=True, out=GRID),), "takes uint8 values"),
        ((QUANTIZE, Op("add", "v2", ("v1", "v0"))), "takes float32 values"),
        ((QUANTIZE, Op("cat", "v2", ("v1", "v0"))), "takes one grid"),
        ((QUANTIZE, SIZE, Op("size", "v3", ("v2",))), "takes a tensor"),
        ((QUANTIZE, Op("integer", "v3", ("v1",), {"left": 1, "right": None})), "takes sizes"),
        ((QUANTIZE, Op("reshape", "v3", ("v0", "v1"), {"shape": [None]})), "takes sizes"),
        ((Op("global_avg_pool", "v1", ("v0",), int8=True, out=GRID),), "takes a uint8 map"),
    ],
)
def test_what_does_not_fit(ops: tuple[Op, ...], match: str) -> None:
    with pytest.raises(ArtifactError, match=match):
        infer(*ops)


def test_a_result_is_float32() -> None:
    with pytest.raises(ArtifactError, match="'v1' is not a float32 value"):
        infer(QUANTIZE, result="v1")
