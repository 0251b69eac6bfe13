"""Importances: how much each unit of a coupled group matters."""

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.pruning.importance.activations import Variance
from torchcompress.pruning.importance.base import (
    CustomImportance,
    Evidence,
    Importance,
    Loss,
    Scores,
    score_units,
)
from torchcompress.pruning.importance.gradients import Fisher, Taylor
from torchcompress.pruning.importance.reconstruction import Reconstruction
from torchcompress.pruning.importance.weights import BatchNormScale, Lamp, Magnitude, Random

IMPORTANCES: dict[str, type[Importance]] = {
    kind.name: kind
    for kind in (
        Magnitude,
        BatchNormScale,
        Taylor,
        Fisher,
        Variance,
        Reconstruction,
        Lamp,
        Random,
    )
}
"""Every importance by its name."""


def find_importance(
    importance: str | Importance | CustomImportance,
) -> Importance | CustomImportance:
    """Returns the importance of a name with its defaults; an object is returned as it is.

    Args:
        importance: A name, an importance, or a function `(groups, tensors) -> {name: scores}`.

    Raises:
        CompressError: A name that does not exist, or something else.
    """
    if isinstance(importance, str):
        if importance not in IMPORTANCES:
            raise CompressError(
                f"{importance!r} is not an importance",
                where="importance",
                hint=did_you_mean(importance, IMPORTANCES),
            )
        return IMPORTANCES[importance]()
    if isinstance(importance, type) or (
        not callable(importance) and not isinstance(importance, Importance)
    ):
        raise CompressError(
            f"{importance!r} is neither a name, an importance nor a function",
            where="importance",
            hint="give 'magnitude', Magnitude(p=1) or a function (groups, tensors) -> scores",
        )
    return importance


__all__ = [
    "IMPORTANCES",
    "BatchNormScale",
    "CustomImportance",
    "Evidence",
    "Fisher",
    "Importance",
    "Lamp",
    "Loss",
    "Magnitude",
    "Random",
    "Reconstruction",
    "Scores",
    "Taylor",
    "Variance",
    "find_importance",
    "score_units",
]
