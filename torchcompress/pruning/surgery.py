"""Cutting slices out of a model's tensors, in place."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.modules import named_tensors
from torchcompress.pruning.adapters import adapt_modules
from torchcompress.pruning.weight_norm import shorten

Removal = dict[str, dict[int, list[int]]]
"""For each parameter or buffer, by name, the sorted indices that go from each dimension."""


def removal_to_json(removal: Removal) -> dict[str, dict[str, list[int]]]:
    """Returns a removal as JSON values."""
    return {name: {str(dim): gone for dim, gone in dims.items()} for name, dims in removal.items()}


def removal_from_json(data: Mapping[str, Mapping[str, list[int]]]) -> Removal:
    """Returns the removal that `removal_to_json` described."""
    return {name: {int(dim): gone for dim, gone in dims.items()} for name, dims in data.items()}


def check_fits(
    model: nn.Module, shapes: Mapping[str, tuple[int, ...]], parameters: Collection[str]
) -> None:
    """Checks that a model has the tensors that a plan cuts, and no parameters that it never saw.

    Another parameter could read channels that go. One that nothing cuts may be missing: a copy by
    `torch.fx` lacks what does not run.

    Args:
        model: The model to cut.
        shapes: Shapes that the plan expects, by name.
        parameters: Names of all parameters that the plan was made for; empty where unknown.

    Raises:
        CompressError: A tensor is missing, has another shape or is new; the first one is named.
    """
    tensors = named_tensors(model)
    for name, shape in shapes.items():
        if name not in tensors:
            raise CompressError(
                "the plan cuts a tensor that this model does not have",
                where=name,
                hint=did_you_mean(name, tensors),
            )
        found = tuple(tensors[name].shape)
        if found != shape:
            raise CompressError(
                f"the plan was made for the shape {shape}, this model has {found}",
                where=name,
                hint="apply the plan to a fresh model of the same architecture, plans in order",
            )
    known = set(parameters)
    new = [name for name, _ in model.named_parameters() if known and name not in known]
    if new:
        raise CompressError(
            "the model that the plan was made for has no such parameter",
            where=new[0],
            hint="make a plan of this model",
        )


def check_removal(removal: Removal, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that a removal leaves something of each dimension that it names.

    Args:
        removal: What goes.
        shapes: Shapes that the plan expects, by name.

    Raises:
        CompressError: A tensor or dimension that is not there, or indices that are not sorted
            numbers of it, fewer than it has.
    """
    for name, dims in removal.items():
        shape = shapes.get(name, ())
        for dim, gone in dims.items():
            size = shape[dim] if type(dim) is int and 0 <= dim < len(shape) else 0
            whole = all(type(index) is int for index in gone)
            rising = whole and all(a < b for a, b in zip([-1, *gone], [*gone, size], strict=True))
            if not rising or len(gone) >= size:
                raise CompressError(
                    f"the plan removes what dimension {dim} of size {size} does not have, or all",
                    where=name,
                    hint="apply a plan that plan_channels made, unchanged",
                )


def check_since(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that an earlier plan can be about a model before it was cut.

    Args:
        model: The model as it is.
        shapes: Shapes that the plan was made for, by name.

    Raises:
        CompressError: A tensor is missing or was never as large; the first one is named.
    """
    tensors = named_tensors(model)
    for name, was in shapes.items():
        now = tuple(tensors[name].shape) if name in tensors else None
        if now is None or len(was) != len(now) or any(map(int.__gt__, now, was)):
            raise CompressError(
                f"the plan in `since` is of another model: {name} is {now} now and was {was}",
                where="since",
                hint="give the plan of this model's first cut, such as tc.history(model)[0]",
            )


def check_mends(model: nn.Module, mends: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that mends only make sizes smaller, since a plan may come from any file.

    Args:
        model: The model to cut.
        mends: New attribute values by module path.

    Raises:
        CompressError: A module that is not there, or an attribute that is no size.
    """
    modules = dict(model.named_modules())
    for path, attributes in mends.items():
        for attribute, value in attributes.items():
            old = getattr(modules.get(path), attribute, None)
            if not no_larger(value, old):
                raise CompressError(
                    f"the plan sets {attribute} to {value!r}, which is no smaller size of it",
                    where=path,
                    hint="apply a plan that plan_channels made for this architecture",
                )


def no_larger(new: Any, old: Any) -> bool:
    """Whether both are sizes, or a list and a tuple of sizes, and none grows."""
    if isinstance(old, tuple):
        fits = isinstance(new, list) and len(new) == len(old)
        return fits and all(map(no_larger, new, old))
    return type(old) is int and type(new) is int and 1 <= new <= old


def cut(model: nn.Module, removal: Removal, mends: Mapping[str, Mapping[str, Any]]) -> None:
    """Removes slices of parameters and buffers and mends the attributes that repeat a size.

    Modules are adapted first (see `adapt`). Parameters stay the same objects, so that ties,
    optimizers and hooks keep them; gradients are cut along. `requires_grad`, dtype, device and
    memory format stay. What is left of a weight keeps its values under weight norm too. No tensor
    is written to: each that changes gets memory of its own, so that a copy may share the rest.

    Args:
        model: The model, changed in place.
        removal: What goes.
        mends: New attribute values by module path.
    """
    shorten(model, removal)
    tensors = named_tensors(model)
    adapt_modules(model, removal)
    for name, dims in removal.items():
        tensor = tensors[name]
        gradient = tensor.grad
        if gradient is not None:
            tensor.grad = None
        kept = sliced(tensor.data, dims)
        _forget_shape(tensor)
        tensor.data = kept
        if gradient is not None:
            tensor.grad = sliced(gradient, dims)
    for path, attributes in mends.items():
        module = model.get_submodule(path)
        for attribute, value in attributes.items():
            setattr(module, attribute, tuple(value) if isinstance(value, list) else value)


def _forget_shape(tensor: Tensor) -> None:
    """Lets autograd forget the shape of a parameter that a loss which is still held has reached.

    Autograd keeps the node that accumulates a parameter's gradient, and the shape it saw, for as
    long as a graph refers to it; a change of dtype is what makes it drop the node.
    """
    other = torch.float64 if tensor.dtype == torch.float32 else torch.float32
    if tensor.requires_grad:
        tensor.data = tensor.data.new_empty(0, dtype=other)


def sliced(tensor: Tensor, dims: Mapping[int, list[int]]) -> Tensor:
    """Returns a tensor without some indices of some dimensions, in its own memory format."""
    result = tensor
    for dim, indices in dims.items():
        keep = torch.ones(tensor.shape[dim], dtype=torch.bool)
        keep[indices] = False
        result = result.index_select(dim, keep.nonzero().flatten().to(tensor.device))
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(tensor.dim())
    if wanted and tensor.is_contiguous(memory_format=wanted) and not tensor.is_contiguous():
        return result.contiguous(memory_format=wanted)
    return result
