import math

from hypothesis import given
from hypothesis import strategies as st

from torchcompress.deploy.onnx.grids import inner_grid, limits
from torchcompress.quantization.observers import symmetric
from torchcompress.quantization.program import Op, QParams

grids = st.builds(QParams, st.floats(1e-4, 10.0), st.integers(0, 255))
ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
}


def written(x: float, grid: QParams) -> float:
    return min(max(x / grid.scale + grid.zero_point, 0.0), 255.0)


def conv(out: QParams, activation: str | None, inputs: int, inner: QParams | None = None) -> Op:
    names = ("x", "r")[:inputs]
    args = {"activation": activation}
    return Op("conv2d", "y", names, args, "l", "l", True, out, inner)


def same(a: QParams | None, b: QParams) -> bool:
    return a is not None and a.zero_point == b.zero_point and math.isclose(a.scale, b.scale)


@given(grids, grids, st.sampled_from([None, "relu"]), st.floats(-1e3, 1e3), st.integers(0, 255))
def test_what_the_grid_before_a_sum_clips_changes_nothing(
    out: QParams, residual: QParams, activation: str | None, y: float, other: int
) -> None:
    if activation == "relu":
        out = QParams(out.scale, 0)
    inner = inner_grid(conv(out, activation, 2), [QParams(1.0, 0), residual])
    assert inner is not None
    low, high = limits(inner)
    r = (other - residual.zero_point) * residual.scale
    act = ACTIVATIONS[activation]
    clipped = min(max(y, low), high)
    # The ends of the grid lie within half a step of where saturation begins.
    slack = inner.scale / out.scale
    assert abs(written(act(clipped + r), out) - written(act(y + r), out)) <= slack + 1e-6


@given(grids, st.sampled_from(["hardswish", "silu"]), st.floats(-50, 1e3))
def test_what_the_grid_before_an_activation_clips_is_half_a_step(
    out: QParams, activation: str, y: float
) -> None:
    inner = inner_grid(conv(out, activation, 1), [QParams(1.0, 0)])
    assert inner is not None
    low, high = limits(inner)
    act = ACTIVATIONS[activation]
    clipped = min(max(y, low), high)
    slack = 1.5 * inner.scale / out.scale + 0.5
    assert abs(written(act(clipped), out) - written(act(y), out)) <= slack + 1e-6


def test_what_calibration_saw_narrows_it_and_is_all_there_is_of_a_float_output() -> None:
    out, seen = QParams(0.1, 128), QParams(0.01, 100)
    assert same(inner_grid(conv(out, "silu", 1, seen), [QParams(1.0, 0)]), seen)
    floating = Op("conv2d", "y", ("x",), {"activation": None}, "l", "l", True, None, seen)
    assert same(inner_grid(floating, [QParams(1.0, 0)]), seen)
    unknown = Op("conv2d", "y", ("x",), {"activation": None}, "l", "l", True, None)
    assert inner_grid(unknown, [QParams(1.0, 0)]) is None


@given(grids)
def test_a_symmetric_grid_covers_the_other_one_and_no_more(grid: QParams) -> None:
    found = symmetric(grid)
    assert found.zero_point == 128
    (low, high), (wide_low, wide_high) = limits(grid), limits(found)
    assert wide_low <= low * (1 - 1e-12)
    assert wide_high >= high * (1 - 1e-12)
    assert math.isclose(wide_low, low) or math.isclose(wide_high, high)
    assert symmetric(found) == found
