"""Do the tensors of an int8 model fit its program?"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.operations import KINDS, layer_tensors
from torchcompress.quantization.program import Op, Program

_DIMS = {"linear": 2, "affine": 4}
"""Dimensions of a weight where they are not those of the layer's input."""


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


def _check_layer(op: Op, tensors: Mapping[str, Any]) -> tuple[str, ...]:
    names = layer_tensors(op)
    for name in names:
        tensor = tensors.get(name)
        if not isinstance(tensor, Tensor):
            raise ArtifactError("the tensor is missing", where=name)
        if tensor.layout != torch.strided or tensor.is_meta:
            raise ArtifactError("holds no dense values", where=name)
        _check_form(name, tensor, *_form(op, name))
        # A constant may be a mask, which holds infinity.
        damaged = torch.isnan(tensor) if op.kind == "constant" else ~torch.isfinite(tensor)
        if damaged.any():
            raise ArtifactError("holds values that are not finite", where=name)
    if op.kind != "constant":
        _check_channels(op, names, tensors)
    return names


def _form(op: Op, name: str) -> tuple[torch.dtype, int | None]:
    """Returns the dtype of a tensor, and its dimensions where they are fixed."""
    if op.kind == "constant":
        return (torch.float32 if op.args["dtype"] == "float32" else torch.int64), None
    if not name.endswith(".weight"):
        return torch.float32, 1
    return (torch.int8 if op.int8 else torch.float32), _DIMS.get(op.kind, KINDS[op.kind].rank)


def _check_form(name: str, tensor: Tensor, dtype: torch.dtype, dims: int | None) -> None:
    if tensor.dtype != dtype or tensor.dim() != (tensor.dim() if dims is None else dims):
        raise ArtifactError(
            f"must be {dtype} with {dims} dimensions, is {tensor.dtype} {list(tensor.shape)}",
            where=name,
        )
    if tensor.numel() == 0:
        raise ArtifactError("is empty", where=name)


def _check_channels(op: Op, names: tuple[str, ...], tensors: Mapping[str, Any]) -> None:
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


def _output_channels(op: Op, weight: Tensor) -> int:
    if op.kind.startswith("conv_transpose"):
        return weight.shape[1] * op.args["groups"]
    return weight.shape[0]
