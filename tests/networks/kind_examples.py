"""One sound operation of every kind, and the program that is just that operation."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization.operations import KINDS
from torchcompress.quantization.program import Op, Program

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Example:
    """An operation, by what it reads.

    Args:
        args: Of the operation.
        shapes: Of its tensors.
        sizes: Its further operands.
        weight: Shape of the weight of a layer.
        index: The integers that are its last tensor.
    """

    args: dict[str, Any]
    shapes: list[Shape]
    sizes: list[int] = field(default_factory=list)
    weight: Shape = ()
    index: list[int] = field(default_factory=list)


def _conv(dims: int, **more: Any) -> Example:
    args = {"stride": [1] * dims, "padding": [1] * dims, "dilation": [1] * dims, "groups": 2}
    shape = (2, 4, *[5] * dims)
    return Example({**args, **more}, [shape], weight=(4, 2, *[3] * dims))


def _pool(dims: int, **more: Any) -> Example:
    args = {"kernel_size": [2] * dims, "stride": [2] * dims, "padding": [0] * dims}
    return Example({**args, "ceil_mode": False, **more}, [(2, 4, *[5] * dims)])


def _adaptive(dims: int) -> Example:
    return Example({"size": [2] * dims}, [(2, 4, *[5] * dims)])


MAP: Shape = (2, 4, 6, 4)
NORM = {"shape": [4], "eps": 1e-5}
WINDOW = {"window": [2, 2], "shift": [1, 1], "fit": False}
REDUCE = Example({"dims": [1, -1], "keepdim": False}, [MAP])
SCALAR = Example({"value": 2.0}, [MAP])
BINARY = Example({}, [MAP, (4, 1, 4)])

EXAMPLES: dict[str, Example] = {
    "conv1d": _conv(1, activation="relu"),
    "conv2d": _conv(2, activation=None),
    "conv3d": _conv(3, activation=None),
    "conv_transpose1d": _conv(1, output_padding=[0]),
    "conv_transpose2d": _conv(2, output_padding=[0, 0]),
    "conv_transpose3d": _conv(3, output_padding=[0, 0, 0]),
    "linear": Example({"activation": "silu"}, [MAP], weight=(3, 4)),
    "affine": Example({"channels": 4, "activation": None}, [MAP], weight=(4, 1, 1, 1)),
    "layer_norm": Example(NORM, [MAP, (4,), (4,)]),
    "rms_norm": Example(NORM, [MAP, (4,)]),
    "group_norm": Example({"groups": 2, "eps": 1e-5}, [MAP, (4,), (4,)]),
    "instance_norm": Example({"eps": 1e-5}, [MAP, (4,), (4,)]),
    "activation": Example({"name": "gelu"}, [MAP]),
    "unary": Example({"name": "exp"}, [MAP]),
    "leaky_relu": Example({"slope": 0.1}, [MAP]),
    "elu": Example({"alpha": 1.0}, [MAP]),
    "softplus": Example({"beta": 1.0, "threshold": 20.0}, [MAP]),
    "prelu": Example({}, [MAP, (4,)]),
    "clamp": Example({"low": -1.0, "high": None}, [MAP]),
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum"), BINARY),
    **dict.fromkeys(("add_scalar", "mul_scalar", "div_scalar", "pow_scalar"), SCALAR),
    "pad_constant": Example({"sides": [1, 0], "value": 2.0}, [MAP]),
    "matmul": Example({}, [MAP, (4, 3)]),
    "einsum": Example({"equation": "abcd,de->abe"}, [MAP, (4, 3)]),
    "softmax": Example({"dim": -1}, [MAP]),
    "log_softmax": Example({"dim": 1}, [MAP]),
    "normalize": Example({"p": 2.0, "dim": -1, "eps": 1e-12}, [MAP]),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), REDUCE),
    **{f"max_pool{d}d": _pool(d, dilation=[1] * d) for d in (1, 2, 3)},
    **{f"avg_pool{d}d": _pool(d, count_include_pad=True) for d in (1, 2, 3)},
    **{f"adaptive_{k}_pool{d}d": _adaptive(d) for k in ("avg", "max") for d in (1, 2, 3)},
    "global_avg_pool": Example({"keepdim": True}, [MAP]),
    "interpolate": Example(
        {
            "size": [None, 7],
            "scale": None,
            "mode": "bilinear",
            "align_corners": False,
            "antialias": False,
        },
        [MAP],
        [5],
    ),
    "local_response_norm": Example({"size": 3, "alpha": 1e-4, "beta": 0.75, "k": 1.0}, [MAP]),
    "attention": Example({"heads": 2, "scale": None}, [(2, 3, 4), (2, 5, 4), (2, 5, 4), (3, 5)]),
    "cosine_attention": Example({"heads": 2}, [(2, 3, 4), (2, 3, 4), (2, 3, 4), (2, 1, 1)]),
    "scaled_dot_product_attention": Example(
        {"scale": 0.5, "causal": True}, [(2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)]
    ),
    "window_partition": Example(WINDOW, [(2, 5, 4, 3)]),
    "window_merge": Example(WINDOW, [(12, 4, 3)], [5, 4]),
    "window_mask": Example(WINDOW, [(1, 2, 4, 4)], [5, 4]),
    "window_bias": Example({**WINDOW, "fit": True}, [(9, 2)], [5, 4], index=[0, 3, 8, 1] * 4),
    "relative_positions": Example(
        {"sizes": [1, 2, None, 1, 1, 2]}, [(2, 2, 5, 4), (3, 4), (3, 4), (1, 4)], [2]
    ),
    "cat": Example({"dim": 1}, [MAP, MAP]),
    "stack": Example({"dim": -1}, [MAP, MAP]),
    "chunk": Example({"chunks": 2, "dim": 1, "index": 1}, [MAP]),
    "slice": Example({"dim": 2, "start": 1, "stop": "operand", "step": 2}, [MAP], [5]),
    "select": Example({"dim": 1, "index": -1}, [MAP]),
    "take": Example({"dim": 1}, [MAP], index=[3, 0, 0]),
    "channel_shuffle": Example({"groups": 2}, [MAP]),
    "pixel_shuffle": Example({"factor": 2}, [MAP]),
    "pixel_unshuffle": Example({"factor": 2}, [MAP]),
    "flatten": Example({"start": 1, "end": -1}, [MAP]),
    "reshape": Example({"shape": [2, None, -1]}, [MAP], [6]),
    "expand": Example({"shape": [None, -1, -1, -1]}, [(1, 4, 6, 4)], [3]),
    "repeat": Example({"counts": [1, 2, None, 1]}, [MAP], [2]),
    "repeat_interleave": Example({"count": 2, "dim": 1}, [MAP]),
    "permute": Example({"dims": [0, 3, 1, 2]}, [MAP]),
    "transpose": Example({"dims": [1, -1]}, [MAP]),
    "squeeze": Example({"dims": [1]}, [(2, 1, 4)]),
    "unsqueeze": Example({"dim": -1}, [MAP]),
    "unsqueeze_to_rank": Example({"rank": 4, "dim": 1}, [(2, 3, 4)]),
    "squeeze_to_rank": Example({"rank": 4, "dim": 1}, [(2, 1, 3, 4)], [3]),
    "flip": Example({"dims": [1, 3]}, [MAP]),
    "roll": Example({"shifts": [1, -1], "dims": [2, 3]}, [MAP]),
    "pad": Example({"sides": [1, None, 0, 2], "mode": "constant"}, [MAP], [2]),
    "resize_nearest": Example({"size": None, "scale": [2.0, 1.5], "mode": "nearest"}, [MAP]),
    "patch_merging": Example({}, [(2, 5, 4, 3)]),
}


def program_of(kind: str, example: Example) -> tuple[Program, dict[str, Tensor], list[Tensor]]:
    """Returns a program of one operation, the tensors of its layers, and inputs for it."""
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random) for shape in example.shapes]
    names = [(f"x{n}", f"v{n}") for n in range(len(inputs))]
    operands, ops, tensors = [value for _, value in names], [], dict[str, Tensor]()
    if example.index:
        tensors["index.value"] = torch.tensor(example.index)
        ops.append(Op("constant", "v80", (), {"dtype": "int64"}, "index"))
        operands.append("v80")
    for n, size in enumerate(example.sizes):
        inputs.append(torch.zeros(size))
        names.append((f"s{n}", f"v{40 + n}"))
        ops.append(Op("size", f"v{60 + n}", (f"v{40 + n}",), {"dim": 0}))
        operands.append(f"v{60 + n}")
    layer = "layer" if KINDS[kind].tensors else None
    if layer:
        channels = example.weight[0]
        if kind.startswith("conv_transpose"):
            channels = example.weight[1] * example.args["groups"]
        tensors["layer.weight"] = torch.randn(example.weight, generator=random)
        tensors["layer.bias"] = torch.randn(channels, generator=random)
    ops.append(Op(kind, "v99", tuple(operands), example.args, layer, kind))
    return Program(tuple(names), tuple(ops), "v99"), tensors, inputs
