"""Do the native kernels of this machine give the reference's numbers? Asked once a process."""

import functools
import warnings
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.operations import (
    FUSED_ACTIVATIONS,
    LINEAR_ACTIVATIONS,
    RESIDUAL_ACTIVATIONS,
)
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.value_types import ValueType

_X, _OUT, _RESIDUAL = QParams(0.02, 31), QParams(0.09, 100), QParams(0.05, 90)


@functools.cache
def native_works() -> bool:
    """Returns whether the native kernels can be used; warns once where they cannot."""
    fault = _first_fault() if torch.backends.mkldnn.is_available() else "oneDNN is not available"
    if fault is not None:
        warnings.warn(
            f"int8 runs on the slow reference here: {fault}", RuntimeWarning, stacklevel=3
        )
    return fault is None


def _first_fault() -> str | None:
    for op, types, inputs, tensors in _cases():
        shapes = [tuple(x.shape) for x in inputs]
        try:
            got = kernels.bind(op, types, tensors, shapes)(*inputs)
        except (RuntimeError, AttributeError) as error:
            return f"{op.name} is missing ({error})"
        want = reference.bind(op, types, tensors)(*inputs)
        if not agree(got, want):
            return f"{op.name} is wrong"
    return None


def agree(got: Tensor, want: Tensor) -> bool:
    """Returns whether two outputs match: uint8 within one step, float32 to 1e-4 of the largest."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    gap = (got.double() - want.double()).abs().max().item()
    return gap <= (1 if got.dtype == torch.uint8 else 1e-4 * want.abs().max().item())


Case = tuple[Op, list[ValueType], list[Tensor], dict[str, Tensor]]


def _cases() -> Iterator[Case]:
    random = torch.Generator().manual_seed(0)

    def image(channels: int) -> Tensor:
        shape = (2, channels, 9, 9)
        x = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
        return x.contiguous(memory_format=torch.channels_last)

    def layer(*shape: int) -> dict[str, Tensor]:
        return {
            "l.weight": torch.randint(-127, 128, shape, generator=random, dtype=torch.int8),
            "l.scale": torch.rand(shape[0], generator=random, dtype=torch.float32) * 4e-3 + 1e-4,
            "l.bias": torch.randn(shape[0], generator=random, dtype=torch.float32),
        }

    for groups, weight in ((1, (8, 16, 3, 3)), (16, (16, 1, 3, 3)), (2, (8, 8, 1, 1))):
        for activation in (None, *FUSED_ACTIVATIONS):
            for out in (_OUT, None):
                args = _conv(groups, weight[2] // 2, activation)
                op = Op("conv2d", "y", ("x",), args, "l", f"conv2d {activation}", True, out)
                yield op, [_X], [image(16)], layer(*weight)
    for activation in RESIDUAL_ACTIVATIONS:
        args = _conv(1, 1, activation)
        op = Op("conv2d", "y", ("x", "r"), args, "l", f"conv2d sum {activation}", True, _OUT)
        yield op, [_X, _RESIDUAL], [image(16), image(8)], layer(8, 16, 3, 3)
        op = replace(op, name=f"product sum {activation}")
        one = [image(16)[:, :, :1, :1], image(8)[:, :, :1, :1]]
        yield op, [_X, _RESIDUAL], one, layer(8, 16, 3, 3)
    for dims in (1, 3):
        args = {**_conv(1, 1, "relu"), **{key: [1] * dims for key in ("stride", "dilation")}}
        args["padding"] = [1] * dims
        op = Op(f"conv{dims}d", "y", ("x",), args, "l", f"conv{dims}d", True, _OUT)
        x = torch.randint(0, 256, (2, 16, *[5] * dims), generator=random, dtype=torch.uint8)
        yield op, [_X], [x], layer(8, 16, *[3] * dims)
    for activation in (None, *LINEAR_ACTIVATIONS):
        args = {"activation": activation}
        op = Op("linear", "y", ("x",), args, "l", f"linear {activation}", True, _OUT)
        yield op, [_X], [image(16)[:, :, 0, 0].contiguous()], layer(10, 16)
    window = {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]}
    pool = {**window, "dilation": [1, 1], "ceil_mode": False}
    for channels in (16, 64):
        yield Op("max_pool2d", "y", ("x",), pool, name="max_pool2d"), [_X], [image(channels)], {}
    mean = {**window, "padding": [0, 0], "ceil_mode": False, "count_include_pad": True}
    op = Op("avg_pool2d", "y", ("x",), mean, None, "avg_pool2d", True, _OUT)
    yield op, [_X], [image(16)], {}
    op = Op("global_avg_pool", "y", ("x",), {"keepdim": True}, None, "global_avg_pool", True, _OUT)
    yield op, [_X], [image(16)], {}


def _conv(groups: int, padding: int, activation: str | None) -> dict[str, object]:
    return {
        "stride": [1, 1],
        "padding": [padding, padding],
        "dilation": [1, 1],
        "groups": groups,
        "activation": activation,
    }
