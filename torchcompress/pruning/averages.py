"""Running averages of a model that are cut along with it."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from torchcompress.core.errors import CompressError
from torchcompress.core.modules import innermost, named_tensors, shadow
from torchcompress.pruning.plan import PruningPlan
from torchcompress.training.ema import EMA

Average = nn.Module | EMA
"""A copy of the model that holds averages, an `AveragedModel` around one, or the trainer's."""


def as_averages(given: Average | Sequence[Average]) -> tuple[Average, ...]:
    """Returns what was given as averages, one or several, as a tuple.

    Raises:
        CompressError: Neither a module, nor an `EMA`, nor a list of such.
    """
    if isinstance(given, Average):
        return (given,)
    if not isinstance(given, Sequence):
        raise _no_average(given)
    return tuple(given)


def check_averages(model: nn.Module, averages: Sequence[Average]) -> None:
    """Refuses what cannot be cut as an average of a model.

    Args:
        model: The model.
        averages: What is to be cut along with it.

    Raises:
        CompressError: Neither a module nor an `EMA`, a copy that has other tensors, or one that
            shares memory with the model or with another average.
    """
    taken = set(map(id, named_tensors(model).values()))
    for average in averages:
        if not isinstance(average, Average):
            raise _no_average(average)
        own = {id(average)}
        if isinstance(average, nn.Module):
            copy = copy_in(average)
            own = set(map(id, named_tensors(copy).values()))
            shapes = [
                {name: tuple(tensor.shape) for name, tensor in named_tensors(m).items()}
                for m in (model, copy)
            ]
            if shapes[0] != shapes[1]:
                raise CompressError(
                    f"{type(average).__name__} holds other tensors than the model",
                    where="ema",
                    hint="give a copy of the model as it is now",
                )
        if own & taken:
            raise CompressError(
                f"{type(average).__name__} shares tensors with the model or another average",
                where="ema",
                hint="give each copy of the model once",
            )
        taken |= own


def _no_average(given: object) -> CompressError:
    return CompressError(
        f"{type(given).__name__} is no module that holds averages",
        where="ema",
        hint="give a copy of the model, an AveragedModel or the trainer's EMA",
    )


def cut_averages(model: nn.Module, averages: Sequence[Average], plan: PruningPlan) -> None:
    """Cuts averages of a model that is about to be cut.

    Args:
        model: The model before the cut.
        averages: Its averages.
        plan: What goes.
    """
    for average in averages:
        if isinstance(average, EMA):
            average.replace(_cut_means(model, average.mean, plan))
        else:
            plan.apply(copy_in(average), inplace=True)


def average_tensors(average: Average) -> Mapping[str, Tensor]:
    """Returns the averages by the names that the model gives its tensors."""
    return average.mean if isinstance(average, EMA) else named_tensors(copy_in(average))


def _cut_means(
    model: nn.Module, means: Mapping[str, Tensor], plan: PruningPlan
) -> dict[str, Tensor]:
    holder = shadow(model)
    for name, tensor in named_tensors(holder).items():
        tensor.data = means[name]
    plan.apply(holder, inplace=True)
    return {name: tensor.detach() for name, tensor in named_tensors(holder).items()}


def copy_in(average: nn.Module) -> nn.Module:
    """Returns the copy of the model that a module holding averages is or wraps."""
    copy = innermost(average)
    return innermost(copy.module) if isinstance(copy, AveragedModel) else copy
