"""Do the tensors of an int8 model fit its program?"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.program import Op, Program

_DIMS = {"conv2d": 4, "linear": 2, "conv_transpose2d": 4, "affine": 4}


def check_tensors(program: Program, tensors: Mapping[str, Any]) -> None:
    """Checks names, dtypes, shapes and values of a program's tensors.

    Args:
        program: A parsed program.
        tensors: By name, from anywhere.

    Raises:
        ArtifactError: A tensor is missing, left over, or does not fit.
    """
    if not isinstance(tensors, Mapping):
        raise ArtifactError("must map names to tensors", where="tensors")
    wanted: set[str] = set()
    for op in program.ops:
        if op.layer is not None:
            wanted.update(_check_layer(op, tensors))
    extra = sorted(str(name) for name in set(tensors) - wanted)
    if extra:
        raise ArtifactError("no operation uses this tensor", where=extra[0])


def layer_tensors(op: Op) -> tuple[str, ...]:
    """Returns the names of an op's tensors."""
    kinds = ("weight", "scale", "bias") if op.int8 else ("weight", "bias")
    return tuple(f"{op.layer}.{kind}" for kind in kinds)


def _check_layer(op: Op, tensors: Mapping[str, Any]) -> tuple[str, ...]:
    names = layer_tensors(op)
    for name in names:
        tensor = tensors.get(name)
        if not isinstance(tensor, Tensor):
            raise ArtifactError("the tensor is missing", where=name)
        if tensor.layout != torch.strided or tensor.is_meta:
            raise ArtifactError("holds no dense values", where=name)
        weight = name == names[0]
        dtype = torch.int8 if op.int8 and weight else torch.float32
        dims = _DIMS[op.kind] if weight else 1
        if tensor.dtype != dtype or tensor.dim() != dims or tensor.numel() == 0:
            raise ArtifactError(
                f"must be {dtype} with {dims} dimensions, is {tensor.dtype} {list(tensor.shape)}",
                where=name,
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtifactError("holds values that are not finite", where=name)
    weight, channels = tensors[names[0]], _output_channels(op, tensors[names[0]])
    for name in names[1:]:
        if len(tensors[name]) != channels:
            raise ArtifactError(
                f"has {len(tensors[name])} entries for {channels} channels", where=name
            )
    if op.int8 and not bool((tensors[names[1]] > 0).all()):
        raise ArtifactError("scales must be above 0", where=names[1])
    groups = op.args.get("groups", 1)
    grouped = weight.shape[0]
    if grouped % groups:
        raise ArtifactError(
            f"{grouped} channels do not divide into {groups} groups", where=names[0]
        )
    return names


def _output_channels(op: Op, weight: Tensor) -> int:
    if op.kind == "conv_transpose2d":
        return weight.shape[1] * op.args["groups"]
    return weight.shape[0]
