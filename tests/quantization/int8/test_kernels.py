"""Native kernels against the float64 reference, within one step, over random geometries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.int8.convolution import Window
from torchcompress.quantization.int8.padding import some_window_misses
from torchcompress.quantization.int8.selftest import agree
from torchcompress.quantization.operations import (
    FUSED_ACTIVATIONS,
    LINEAR_ACTIVATIONS,
    RESIDUAL_ACTIVATIONS,
    activate,
)
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.value_types import ValueType

grids = st.builds(QParams, st.floats(1e-3, 0.1), st.integers(0, 255))
quick = settings(max_examples=40, deadline=None)


def bytes_like(*shape: int) -> Tensor:
    x = torch.randint(0, 256, shape, dtype=torch.uint8)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def layer(*shape: int) -> dict[str, Tensor]:
    return {
        "l.weight": torch.randint(-127, 128, shape, dtype=torch.int8),
        "l.scale": torch.rand(shape[0]) * 1e-2 + 1e-4,
        "l.bias": torch.randn(shape[0]),
    }


def check(op: Op, types: list[ValueType], tensors: dict[str, Tensor], *inputs: Tensor) -> None:
    shapes = [tuple(x.shape) for x in inputs]
    want = reference.bind(op, types, tensors)(*(x.clone() for x in inputs))
    kept = [x.clone() for x in inputs]
    got = kernels.bind(op, types, tensors, shapes)(*inputs)
    assert agree(got, want)
    assert all(torch.equal(a, b) for a, b in zip(inputs, kept, strict=True))
    if op.kind == "conv2d" and len(inputs) > 1:
        overwriting = kernels.bind(op, types, tensors, shapes, overwrite=True)
        assert torch.equal(overwriting(*kept), got)


@quick
@given(data=st.data())
def test_convolution(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 2, 4]))
    channels, filters = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    kernel, size = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    padding, stride = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    args = {
        "stride": [stride, 1],
        "padding": [padding, padding],
        "dilation": [dilation, dilation],
        "groups": groups,
        "activation": draw(st.sampled_from([None, *FUSED_ACTIVATIONS])),
    }
    out = draw(st.none() | grids)
    op = Op("conv2d", "y", ("x",), args, "l", int8=True, out=out)
    x = bytes_like(draw(st.integers(1, 3)), channels, size, size)
    weights = layer(filters, channels // groups, kernel, kernel)
    check(op, [draw(grids)], weights, x)


@pytest.mark.parametrize(
    ("kernel", "size", "padding", "stride", "dilation", "missing"),
    [
        (2, 2, 2, 2, 1, True),
        (1, 3, 1, 1, 1, True),
        (3, 1, 3, 2, 2, True),  # without care this one ends the process
        (3, 1, 1, 1, 1, False),
        (3, 8, 2, 1, 2, False),
    ],
)
def test_windows_that_see_only_padding(
    kernel: int, size: int, padding: int, stride: int, dilation: int, missing: bool
) -> None:
    args = {
        "stride": [stride, 1],
        "padding": [padding, padding],
        "dilation": [dilation, dilation],
        "groups": 1,
        "activation": None,
    }
    assert some_window_misses(Window.of(args), (kernel, kernel), (1, 1, size, size)) is missing
    op = Op("conv2d", "y", ("x",), args, "l", int8=True)
    for channels, filters in ((1, 8), (1, 1), (16, 16)):
        weights = layer(filters, channels, kernel, kernel)
        check(op, [QParams(0.05, 77)], weights, bytes_like(2, channels, size, size))


@quick
@given(data=st.data())
def test_convolution_with_residual(data: st.DataObject) -> None:
    draw = data.draw
    size, padding, stride = (
        draw(st.integers(1, 6)),
        draw(st.integers(0, 1)),
        draw(st.integers(1, 2)),
    )
    kernel = draw(st.sampled_from([1, 3]))
    out_size = (size + 2 * padding - kernel) // stride + 1
    if size + 2 * padding < kernel:
        return
    args = {
        "stride": [stride, stride],
        "padding": [padding, padding],
        "dilation": [1, 1],
        "groups": 1,
        "activation": draw(st.sampled_from(RESIDUAL_ACTIVATIONS)),
    }
    op = Op("conv2d", "y", ("x", "r"), args, "l", int8=True, out=draw(grids))
    filters = draw(st.integers(1, 20))
    x, residual = bytes_like(2, 5, size, size), bytes_like(2, filters, out_size, out_size)
    check(op, [draw(grids), draw(grids)], layer(filters, 5, kernel, kernel), x, residual)


@pytest.mark.parametrize(("channels", "filters"), [(32, 32), (96, 96)])
def test_depthwise_and_strided_layouts(channels: int, filters: int) -> None:
    args = {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "activation": "relu6"}
    op = Op(
        "conv2d", "y", ("x",), {**args, "groups": channels}, "l", int8=True, out=QParams(0.1, 9)
    )
    weights = layer(filters, 1, 3, 3)
    x = bytes_like(2, channels, 8, 6)
    wide = bytes_like(2, 2 * channels, 8, 6)
    for same_values in (x, x.contiguous(), wide[:, channels:], x.permute(0, 1, 3, 2)):
        check(op, [QParams(0.02, 200)], weights, same_values)


@quick
@given(grid=grids, out=st.none() | grids, rows=st.integers(1, 5), data=st.data())
def test_linear(grid: QParams, out: QParams | None, rows: int, data: st.DataObject) -> None:
    activation = data.draw(st.sampled_from([None, *LINEAR_ACTIVATIONS]))
    op = Op("linear", "y", ("x",), {"activation": activation}, "l", int8=True, out=out)
    check(op, [grid], layer(7, 33), bytes_like(rows, 33))
    check(op, [grid], layer(7, 33), bytes_like(rows, 3, 33))


def test_exact_on_extreme_integers() -> None:
    """127 times 255, over so many products that int16 or float32 sums would be wrong."""
    args = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    op = Op("conv2d", "y", ("x",), {**args, "activation": None}, "l", int8=True)
    for sign in (1, -1):
        weight = torch.full((4, 512, 3, 3), 127 * sign, dtype=torch.int8)
        tensors = {"l.weight": weight, "l.scale": torch.ones(4), "l.bias": torch.zeros(4)}
        x = torch.full((1, 512, 4, 4), 255, dtype=torch.uint8)
        got = kernels.bind(op, [QParams(1.0, 0)], tensors, [(1, 512, 4, 4)])(x)
        assert torch.equal(got, torch.full((1, 4, 2, 2), 127.0 * 255 * sign * 512 * 9))


@quick
@given(data=st.data())
def test_max_pool_is_exact(data: st.DataObject) -> None:
    draw, sides = data.draw, st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(sides), draw(sides), draw(sides)
    args = {
        "kernel_size": list(kernel),
        "stride": list(stride),
        "padding": [draw(st.integers(0, k // 2)) for k in kernel],
        "dilation": list(dilation),
        "ceil_mode": draw(st.booleans()),
    }
    op = Op("max_pool2d", "y", ("x",), args)
    x = bytes_like(2, draw(st.sampled_from([1, 19, 64])), draw(st.integers(7, 12)), 9)
    want = torch.max_pool2d(x.float(), *args.values())
    got = kernels.bind(op, [QParams(0.1, 77)], {}, [tuple(x.shape)])(x)
    assert torch.equal(got.float(), want)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("top", [5.9, 6.0, 6.1])
def test_clamping_by_the_grid_alone(activation: str, top: float) -> None:
    """A grid from 0 clamps like the activation only where it ends no higher."""
    args = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    out = QParams(top / 255, 0)
    op = Op("conv2d", "y", ("x",), {**args, "activation": activation}, "l", int8=True, out=out)
    check(op, [QParams(0.05, 77)], layer(16, 8, 1, 1), bytes_like(2, 8, 5, 5))


@quick
@given(grid=grids, out=st.none() | grids, size=st.integers(1, 9), keepdim=st.booleans())
def test_global_avg_pool(grid: QParams, out: QParams | None, size: int, keepdim: bool) -> None:
    op = Op("global_avg_pool", "y", ("x",), {"keepdim": keepdim}, int8=out is not None, out=out)
    check(op, [grid], {}, bytes_like(2, 11, size, 6))


@quick
@given(grid=grids, out=grids, kernel=st.integers(1, 3), stride=st.integers(1, 3), data=st.data())
def test_avg_pool(
    grid: QParams, out: QParams, kernel: int, stride: int, data: st.DataObject
) -> None:
    args = {
        "kernel_size": [kernel, kernel],
        "stride": [stride, stride],
        "padding": [data.draw(st.integers(0, kernel // 2)), 0],
        "ceil_mode": False,
        "count_include_pad": True,
    }
    op = Op("avg_pool2d", "y", ("x",), args, int8=True, out=out)
    check(op, [grid], {}, bytes_like(2, 11, 7, 6))


@pytest.mark.parametrize("stride", [[2, 2], [2, 1], [1, 2]])
@pytest.mark.parametrize("summed", [False, True])
def test_a_strided_column_of_many_channels(stride: list[int], summed: bool) -> None:
    """One column in steps of two: oneDNN alone gets its lower rows wrong."""
    args = {"stride": stride, "padding": [1, 0], "dilation": [1, 1], "groups": 1}
    inputs = ("x", "r") if summed else ("x",)
    grid = QParams(0.3, 100)
    op = Op("conv2d", "y", inputs, {**args, "activation": "relu"}, "l", int8=True, out=grid)
    x = bytes_like(2, 256, 5, 3)
    residual = [bytes_like(2, 512, 5 if stride[0] == 1 else 3, 1)] if summed else []
    check(op, [QParams(0.02, 3)] * len(inputs), layer(512, 256, 3, 3), x, *residual)


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (1, 8, 1, 1), (3, 40, 70, 70)])
@pytest.mark.parametrize("turned", [False, True])
def test_gate(shape: tuple[int, ...], turned: bool) -> None:
    op = Op("mul", "y", ("x", "g"), out=QParams(0.013, 40))
    factors = [torch.randn(shape), torch.rand(*shape[:2], 1, 1)]
    check(op, ["float", "float"], {}, *(factors[::-1] if turned else factors))


@quick
@given(data=st.data())
def test_float_arithmetic_on_int8_weights(data: st.DataObject) -> None:
    """Maps of a pixel and others, against the same convolution in float64."""
    kernel, size = data.draw(st.sampled_from([1, 3])), data.draw(st.integers(1, 3))
    activation = data.draw(st.sampled_from([None, *FUSED_ACTIVATIONS]))
    window = {"stride": [2, 2], "padding": [kernel // 2] * 2, "dilation": [1, 1], "groups": 1}
    op = Op("conv2d", "y", ("x",), {**window, "activation": activation}, "l", int8=True)
    tensors, x = layer(6, 5, kernel, kernel), torch.randn(3, 5, size, size)
    got = kernels.bind(op, ["float"], tensors, [tuple(x.shape)])(x)
    weight = tensors["l.weight"].double() * tensors["l.scale"].double().view(-1, 1, 1, 1)
    want = torch.conv2d(x.double(), weight, tensors["l.bias"].double(), 2, kernel // 2)
    assert torch.allclose(got.double(), activate(want, activation), rtol=1e-4, atol=1e-4)
    also = reference.bind(op, ["float"], tensors)(x)
    assert torch.allclose(also, got, rtol=1e-4, atol=1e-4)


@quick
@given(data=st.data())
def test_convolution_of_lines_and_volumes(data: st.DataObject) -> None:
    draw, dims = data.draw, data.draw(st.sampled_from([1, 3]))

    def sides(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(dims)]

    groups = draw(st.sampled_from([1, 2, 4]))
    channels, filters = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    kernel, size, padding = sides(1, 3), sides(1, 7), sides(0, 2)
    extents = zip(size, padding, kernel, strict=True)
    if any(s + 2 * p < k for s, p, k in extents):
        return
    args = {
        "stride": sides(1, 3),
        "padding": padding,
        "dilation": [1] * dims,
        "groups": groups,
        "activation": draw(st.sampled_from([None, *FUSED_ACTIVATIONS])),
    }
    out = draw(st.none() | grids)
    op = Op(f"conv{dims}d", "y", ("x",), args, "l", int8=True, out=out)
    weights = layer(filters, channels // groups, *kernel)
    check(op, [draw(grids)], weights, bytes_like(draw(st.integers(1, 3)), channels, *size))


@pytest.mark.parametrize("size", [(2, 4, 2), (3, 3, 1), (4, 5, 3)])
def test_a_strided_column_of_a_volume(size: tuple[int, ...]) -> None:
    """One column in steps of two: oneDNN alone gets that wrong in volumes too."""
    args = {"stride": [1, 2, 2], "padding": [1, 1, 1], "dilation": [1, 1, 1], "groups": 1}
    op = Op("conv3d", "y", ("x",), {**args, "activation": None}, "l", int8=True)
    check(op, [QParams(0.02, 3)], layer(64, 64, 3, 3, 3), bytes_like(2, 64, *size))
