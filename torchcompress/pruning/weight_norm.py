"""Weight norm: what is left of a weight keeps its values when slices of it go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm


@dataclass(frozen=True)
class Normed:
    """A weight that is computed as `length * direction / norm(direction)`.

    Attributes:
        length: The length of each slice.
        direction: The slices, of the weight's shape.
        name: Name of `direction` in the model.
        dim: The dimension that numbers the slices.
    """

    length: Tensor
    direction: Tensor
    name: str
    dim: int


def normed_weights(model: nn.Module) -> Iterator[Normed]:
    """Yields the weights of a model that are normed slice by slice, in both forms of torch."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        norms = [
            (step.dim, "original0", "original1")
            for step in (module if isinstance(module, ParametrizationList) else ())
            if isinstance(step, _WeightNorm)
        ]
        norms += [
            (hook.dim, f"{hook.name}_g", f"{hook.name}_v")
            for hook in module._forward_pre_hooks.values()
            if isinstance(hook, WeightNorm)
        ]
        for dim, length, direction in norms:
            if dim >= 0:
                tensors = map(module.get_parameter, (length, direction))
                yield Normed(*tensors, name=f"{prefix}{direction}", dim=dim)


def shorten(model: nn.Module, removal: Mapping[str, Mapping[int, list[int]]]) -> None:
    """Gives each slice that loses entries the part of its length that the others have.

    Args:
        model: The model before the cut, changed in place.
        removal: What goes of each tensor, by name and dimension.
    """
    for weight in normed_weights(model):
        gone = {d: i for d, i in removal.get(weight.name, {}).items() if d != weight.dim}
        if gone:
            whole = weight.direction.data
            left = whole.clone()
            for dim, indices in gone.items():
                left.index_fill_(dim, torch.tensor(indices, device=left.device), 0)
            before, after = (torch.norm_except_dim(t, 2, weight.dim) for t in (whole, left))
            weight.length.data = weight.length.data * (after / before).nan_to_num(1.0)
