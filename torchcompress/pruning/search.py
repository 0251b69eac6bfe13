"""Looking for a cut that passes its trial."""

from collections.abc import Callable
from dataclasses import replace

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Inputs
from torchcompress.graph.groups import Group
from torchcompress.pruning.budget import Removed
from torchcompress.pruning.draft import Draft
from torchcompress.pruning.proof import Trial

Choose = Callable[[list[Group]], Removed]
"""Returns the units that go of the groups that may lose some."""


def find_cut(draft: Draft, choose: Choose, x: Inputs | None) -> tuple[Draft, Trial | None]:
    """Returns a cut that passes its trial, freezing the groups whose cut fails it.

    Args:
        draft: The model and its groups; what it removes is replaced.
        choose: Which units go.
        x: Example inputs of the trial; None for no trial.

    Raises:
        UnsupportedError: Nothing in the model can be pruned.
    """
    while True:
        free = [group for group in draft.groups if group.frozen is None]
        if not free:
            raise UnsupportedError(
                "no channel of the model can be pruned: "
                + "; ".join(sorted({f"{g.name} {g.frozen}" for g in draft.groups})[:5]),
                where=type(draft.model).__name__,
                hint="a model needs two layers in a row whose channels no output or input fixes",
            )
        draft = replace(draft, removed=choose(free))
        if x is None:
            return draft, None
        trial = draft.trial(x)
        if trial.failure is None:
            return draft, trial
        draft = replace(draft, groups=_freeze_culprit(draft, x, trial))


def _freeze_culprit(draft: Draft, x: Inputs, trial: Trial) -> list[Group]:
    """Finds by bisection a group whose cut alone makes the trial fail, and freezes it."""
    names = list(draft.removed)
    low, high = 0, len(names)
    failure = trial.failure
    while high - low > 1:
        middle = (low + high) // 2
        part = draft.only(names[:middle]).trial(x)
        if part.failure is None:
            low = middle
        else:
            high, failure = middle, part.failure
    reason = f"fails its trial, so the model relies on its size: {failure}"
    culprit = names[high - 1]
    return [replace(g, frozen=reason) if g.name == culprit else g for g in draft.groups]
