"""Kinds that read windows of a map, and kinds that resize it."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.kinds import checks
from torchcompress.quantization.kinds.checks import is_bool, is_number
from torchcompress.quantization.kinds.kind import Args, Function, Kind
from torchcompress.quantization.kinds.movement import RESIZING, resize_flaw, resized, resizing


def _window(dims: int) -> dict[str, checks.Check]:
    return {
        "kernel_size": checks.integers(dims, 1),
        "stride": checks.integers(dims, 1),
        "padding": checks.integers(dims, 0),
        "ceil_mode": is_bool,
    }


def _pool(function: Callable[..., Tensor], dims: int, **more: checks.Check) -> Kind:
    return Kind(lambda a: lambda x: function(x, **a), {**_window(dims), **more}, rank=dims + 2)


def _adaptive(function: Callable[..., Tensor], dims: int) -> Kind:
    size = {"size": checks.integers(dims, 1)}
    return Kind(lambda a: lambda x: function(x, a["size"]), size, rank=dims + 2)


def _interpolate(args: Args) -> Function:
    mode, corners, antialias = args["mode"], args["align_corners"], args["antialias"]

    def run(x: Tensor, *sizes: int) -> Tensor:
        size, scale = resizing(args, x.dim() - 2, sizes)
        return F.interpolate(x, size, scale, mode, corners, antialias=antialias)

    return run


def _local_response_norm(args: Args) -> Function:
    return lambda x: F.local_response_norm(x, **args)


def is_mean_of_windows(args: Args) -> bool:
    """Returns whether an average pooling divides every sum by the size of a whole window.

    It is then a depthwise convolution with ones.
    """
    counted = args["count_include_pad"] or not any(args["padding"])
    return bool(counted) and not args["ceil_mode"]


POOLING: dict[str, Kind] = {
    "max_pool1d": _pool(F.max_pool1d, 1, dilation=checks.integers(1, 1)),
    "max_pool2d": _pool(F.max_pool2d, 2, dilation=checks.integers(2, 1)),
    "max_pool3d": _pool(F.max_pool3d, 3, dilation=checks.integers(3, 1)),
    "avg_pool1d": _pool(F.avg_pool1d, 1, count_include_pad=is_bool),
    "avg_pool2d": _pool(F.avg_pool2d, 2, count_include_pad=is_bool),
    "avg_pool3d": _pool(F.avg_pool3d, 3, count_include_pad=is_bool),
    "adaptive_avg_pool1d": _adaptive(F.adaptive_avg_pool1d, 1),
    "adaptive_avg_pool2d": _adaptive(F.adaptive_avg_pool2d, 2),
    "adaptive_avg_pool3d": _adaptive(F.adaptive_avg_pool3d, 3),
    "adaptive_max_pool1d": _adaptive(F.adaptive_max_pool1d, 1),
    "adaptive_max_pool2d": _adaptive(F.adaptive_max_pool2d, 2),
    "adaptive_max_pool3d": _adaptive(F.adaptive_max_pool3d, 3),
    "global_avg_pool": Kind(
        lambda a: lambda x: x.mean((2, 3), keepdim=a["keepdim"]), {"keepdim": is_bool}, rank=4
    ),
    "interpolate": Kind(
        _interpolate,
        {
            **RESIZING,
            "mode": checks.one_of("linear", "bilinear", "bicubic", "trilinear", "area"),
            "align_corners": checks.optional(is_bool),
            "antialias": is_bool,
        },
        sizes=resized,
        flaw=resize_flaw,
    ),
    "local_response_norm": Kind(
        _local_response_norm,
        {"size": checks.integer(1), "alpha": is_number, "beta": is_number, "k": is_number},
    ),
}
