"""Penalties that make channels easy to remove, as gradients that are added before each step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.modules import named_tensors
from torchcompress.graph.groups import Group
from torchcompress.pruning.optimizer_state import parameters_of
from torchcompress.pruning.surgery import Removal

Penalty = Callable[[int], list[tuple[Tensor, Tensor]]]
"""Returns for a number of optimizer steps taken the trained parameters that are penalised, each
with the gradient of the penalty."""

Going = Callable[[], Removal]
"""Returns what will go from a model on its way to the target."""


class Regularizer(Protocol):
    """What is added to the loss until the last cut."""

    def bind(self, model: nn.Module, groups: Sequence[Group], going: Going) -> Penalty:
        """Returns the penalty of a model as it is until the next cut.

        Args:
            model: The model.
            groups: The coupled groups that may lose units.
            going: Plans what will go, for those that must know it.
        """
        ...


@dataclass(frozen=True)
class BNSparsity:
    """The L1 norm of the scales of batch norms (Liu et al. 2017, "network slimming").

    Only the scales of channels that may go are penalised.

    Args:
        strength: What the norm is multiplied by, above 0.

    Raises:
        CompressError: A strength that is not positive.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        _positive("strength", self.strength)

    def bind(self, model: nn.Module, groups: Sequence[Group], going: Going) -> Penalty:
        """Returns the penalty; see `Regularizer.bind`.

        Raises:
            CompressError: No batch norm has a scale that may go.
        """
        tensors = _trained(model)
        scales = {
            f"{path}.weight" for path, m in model.named_modules() if isinstance(m, _BatchNorm)
        }
        weights = []
        for group in groups:
            for (name, _), indices in group.members.items():
                if name in scales & tensors.keys():
                    scale = tensors[name]
                    where = torch.from_numpy(indices.ravel()).to(scale.device)
                    factors = torch.zeros_like(scale, requires_grad=False)
                    weights.append((scale, factors.index_fill_(0, where, self.strength)))
        if not weights:
            raise CompressError(
                "no batch norm has a scale that may go",
                where="regularizer",
                hint="give regularizer='group_lasso', which needs no batch norm",
            )
        return lambda step: [(scale, scale.sign() * factor) for scale, factor in weights]


@dataclass(frozen=True)
class GroupLasso:
    """The sum over coupled units of the L2 norm of all that would go with each.

    The group lasso (Yuan and Lin 2006; Wen et al. 2016, "Learning Structured Sparsity in Deep
    Neural Networks") over every coupled slice, as in Fang et al. 2023, "DepGraph". Its gradient
    is 0 at a unit that is all zero.

    Args:
        strength: What the sum is multiplied by, above 0.

    Raises:
        CompressError: A strength that is not positive.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        _positive("strength", self.strength)

    def bind(self, model: nn.Module, groups: Sequence[Group], going: Going) -> Penalty:
        """Returns the penalty; see `Regularizer.bind`."""
        tensors = _trained(model)
        coupled = [
            [
                (tensors[name], dim, torch.from_numpy(indices).to(tensors[name].device))
                for (name, dim), indices in group.members.items()
                if name in tensors
            ]
            for group in groups
        ]

        def penalty(step: int) -> list[tuple[Tensor, Tensor]]:
            return [
                (tensor, gradient.mul_(self.strength))
                for members in coupled
                if members
                for tensor, gradient in _norm_gradients(members)
            ]

        return penalty


@dataclass(frozen=True)
class Growing:
    """Half the squared L2 norm of all that will go, times a factor that grows.

    Wang et al. 2021, "Neural Pruning via Growing Regularization". What will go is planned when the
    pruner is attached and again after each cut.

    Args:
        delta: What the factor grows by, above 0.
        every: Optimizer steps after which it grows.
        ceiling: The highest factor, above 0.

    Raises:
        CompressError: A number out of range.
    """

    delta: float = 1e-4
    every: int = 10
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        _positive("delta", self.delta)
        _positive("every", self.every)
        _positive("ceiling", self.ceiling)

    def factor(self, step: int) -> float:
        """Returns the factor after so many optimizer steps."""
        return min(self.ceiling, self.delta * (1 + step // self.every))

    def bind(self, model: nn.Module, groups: Sequence[Group], going: Going) -> Penalty:
        """Returns the penalty; see `Regularizer.bind`."""
        tensors = _trained(model)
        masks = [
            (tensors[n], _mask(tensors[n], dims)) for n, dims in going().items() if n in tensors
        ]

        def penalty(step: int) -> list[tuple[Tensor, Tensor]]:
            factor = self.factor(step)
            return [(tensor, tensor.masked_fill(~mask, 0).mul_(factor)) for tensor, mask in masks]

        return penalty


REGULARIZERS: dict[str, Callable[[], Regularizer]] = {
    "bn": BNSparsity,
    "group_lasso": GroupLasso,
    "growing": Growing,
}
"""The regularizers by name."""


def find_regularizer(regularizer: str | Regularizer | None) -> Regularizer | None:
    """Returns a regularizer that was given by name or as it is.

    Raises:
        CompressError: A name that is not known, or what is no regularizer.
    """
    if regularizer is None:
        return None
    if not isinstance(regularizer, str):
        if isinstance(regularizer, type) or not callable(getattr(regularizer, "bind", None)):
            raise CompressError(
                f"{regularizer!r} is not a regularizer",
                where="regularizer",
                hint=f"give {', '.join(REGULARIZERS)}, or one such as GroupLasso(1e-3)",
            )
        return regularizer
    if regularizer not in REGULARIZERS:
        raise CompressError(
            f"{regularizer!r} is not a regularizer",
            where="regularizer",
            hint=did_you_mean(regularizer, REGULARIZERS),
        )
    return REGULARIZERS[regularizer]()


def penalised(model: nn.Module, penalty: Penalty) -> set[str]:
    """Returns the names of the parameters that a penalty is about at first."""
    with torch.no_grad():
        found = {id(parameter) for parameter, _ in penalty(0)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


def check_served(model: nn.Module, names: set[str], optimizers: Iterable[Optimizer]) -> None:
    """Refuses a penalty that would have no effect.

    Args:
        model: The model.
        names: The parameters that are penalised.
        optimizers: Who trains the model.

    Raises:
        CompressError: No optimizer has any of the parameters.
    """
    trained = {id(parameter) for one in optimizers for parameter in parameters_of(one)}
    meant = {id(parameter) for name, parameter in model.named_parameters() if name in names}
    if meant and meant.isdisjoint(trained):
        raise CompressError(
            "no optimizer trains what it penalizes",
            where="regularizer",
            hint="attach every optimizer of the model, or give another regularizer",
        )


def add_gradients(optimizer: Optimizer, gradients: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Adds gradients of a penalty to those that an optimizer is about to step with.

    Args:
        optimizer: Its own parameters that have a gradient are served.
        gradients: Parameters, each with a gradient.
    """
    owned = {id(parameter) for parameter in parameters_of(optimizer)}
    # A fused optimizer takes out the scale of a GradScaler by itself, later.
    scale = getattr(optimizer, "grad_scale", None)
    for parameter, gradient in gradients:
        if id(parameter) in owned and parameter.grad is not None:
            parameter.grad.add_(gradient if scale is None else gradient * scale)


def _norm_gradients(members: list[tuple[Tensor, int, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Returns the gradients of the sum over units of the L2 norm of their slices.

    Args:
        members: Tensors, the dimension of each and the indices of each unit, (units, k).
    """
    squares = [
        tensor.transpose(0, dim).flatten(1).square().sum(1)[indices].sum(1)
        if tensor.dim() > 1
        else tensor.square()[indices].sum(1)
        for tensor, dim, indices in members
    ]
    norms = torch.stack([s.to(squares[0]) for s in squares]).sum(0).sqrt()
    scales = torch.where(norms > 0, norms.reciprocal(), 0)
    gradients = []
    for tensor, dim, indices in members:
        factors = tensor.new_zeros(tensor.shape[dim], requires_grad=False)
        factors[indices.ravel()] = scales.to(factors).repeat_interleave(indices.shape[1])
        shape = [1] * tensor.dim()
        shape[dim] = -1
        gradients.append((tensor, tensor * factors.reshape(shape)))
    return gradients


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in named_tensors(model).items() if t.requires_grad}


def _mask(tensor: Tensor, dims: Mapping[int, list[int]]) -> Tensor:
    """Returns where a tensor holds what goes."""
    mask = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    for dim, gone in dims.items():
        mask.index_fill_(dim, torch.tensor(gone, device=tensor.device), True)
    return mask


def _positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise CompressError(f"{value!r} is not above 0", where=f"regularizer.{name}")
