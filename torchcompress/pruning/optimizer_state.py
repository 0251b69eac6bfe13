"""Optimizer state that is cut along with the parameters that it belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.core.modules import named_tensors
from torchcompress.pruning.surgery import Removal, sliced


def check_optimizers(model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Refuses optimizers that do not train a model, or whose state cannot be cut.

    Args:
        model: The model that is cut.
        optimizers: Who trains it.

    Raises:
        CompressError: As in `check_train`.
        UnsupportedError: The state is no tensor per parameter.
    """
    check_train(model, optimizers)
    for optimizer in optimizers:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UnsupportedError(
                "LBFGS keeps one flat history of all parameters, which cannot be cut",
                where="attach",
                hint="train with an optimizer whose state is kept by parameter",
            )


def check_train(model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Refuses optimizers that do not train a model.

    Args:
        model: The model.
        optimizers: Who trains it.

    Raises:
        CompressError: No optimizer, something else, or one without a parameter of the model.
    """
    if not optimizers:
        raise CompressError("no optimizer to count the steps of", where="attach")
    own = {id(parameter) for parameter in model.parameters()}
    for optimizer in optimizers:
        name = type(optimizer).__name__
        if not isinstance(optimizer, Optimizer):
            raise CompressError(f"{name} is no torch optimizer", where="attach")
        if own.isdisjoint(id(parameter) for parameter in parameters_of(optimizer)):
            raise CompressError(
                f"{name} holds no parameter of the model",
                where="attach",
                hint="give the optimizer of this model; copies of its parameters do not count",
            )


def parameters_of(optimizer: Optimizer) -> Iterable[Tensor]:
    """Yields the parameters that an optimizer steps."""
    for group in optimizer.param_groups:
        yield from group["params"]


@dataclass(frozen=True)
class CutState:
    """One entry of an optimizer's state after a cut.

    Attributes:
        state: The entries of the parameter.
        key: The name of this one.
        value: What it will be.
    """

    state: dict[Any, Any]
    key: Any
    value: Tensor

    def put(self) -> None:
        """Puts the value in its place."""
        self.state[self.key] = self.value


def cut_states(
    model: nn.Module, optimizers: Sequence[Optimizer], removal: Removal
) -> list[CutState]:
    """Returns what the state of the optimizers is after a cut; nothing is changed yet.

    A tensor of the parameter's shape is sliced like the parameter. So is one that has size 1 in
    some dimensions (Adafactor's factors), in the others. Scalars stay.

    Args:
        model: The model before the cut.
        optimizers: Who trains it.
        removal: What goes from it.

    Raises:
        UnsupportedError: A state of another shape.
    """
    tensors = named_tensors(model)
    states = []
    for optimizer in optimizers:
        for name, dims in removal.items():
            state = optimizer.state.get(tensors[name], {})
            for key, value in state.items():
                kept = _kept(tensors[name], value, dims)
                if kept is None:
                    raise UnsupportedError(
                        f"{type(optimizer).__name__} keeps {key!r} for it in a form that cannot "
                        "be cut",
                        where=name,
                        hint="train with an optimizer whose state has the shape of the parameter",
                    )
                if kept is not value:
                    states.append(CutState(state, key, kept))
    return states


def _kept(tensor: Tensor, value: Any, dims: Mapping[int, list[int]]) -> Any:
    """Returns what remains of a state of a parameter, or None where that is unclear."""
    inner = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    if all(leaf.numel() <= 1 for leaf in inner):
        return value
    if not isinstance(value, Tensor) or value.dim() != tensor.dim():
        return None
    if any(n not in (1, m) for n, m in zip(value.shape, tensor.shape, strict=True)):
        return None
    return sliced(value, {dim: gone for dim, gone in dims.items() if value.shape[dim] > 1})
