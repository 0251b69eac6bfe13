"""Looking for a cut that passes its trial."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Inputs
from torchcompress.graph.groups import Group
from torchcompress.pruning.budget import Removed
from torchcompress.pruning.draft import Draft
from torchcompress.pruning.proof import Proof, Trial
from torchcompress.pruning.ties import Retie, Tie, equal_widths, find_tied

Choose = Callable[[list[Group]], Removed]
"""Returns the units that go of the groups that may lose some."""

C = TypeVar("C", bound=Choose)

Failure = Callable[[list[str]], str | None]
"""Returns how the cut of some groups, by name, fails, or None."""


def find_cut(
    draft: Draft, choose: C, x: Inputs | None, retie: Retie[C] | None = None
) -> tuple[Draft, C, Trial | None]:
    """Returns a cut that passes its trial, freezing the groups whose cut fails it.

    Groups that fail are first tied to each other where that lets them pass; see `equal_widths`.

    Args:
        draft: The model and its groups; what it removes is replaced.
        choose: Which units go.
        x: Example inputs of the trial; None for no trial.
        retie: The model under ties; None where it is not tied.

    Returns:
        The cut, what chose it and its trial.

    Raises:
        UnsupportedError: Nothing in the model can be pruned.
    """
    proof = None if x is None else Proof(draft.model, x, draft.seen)
    failed: set[str] = set()
    ties: list[Tie] = []
    tried: list[Tie] = []
    while True:
        free = [group for group in draft.groups if group.frozen is None]
        if not free:
            raise UnsupportedError(
                "no channel of the model can be pruned: "
                + "; ".join(sorted({f"{g.name} {g.frozen}" for g in draft.groups})[:5]),
                where=type(draft.model).__name__,
                hint="exclude less"
                if any((g.frozen or "").endswith("is excluded") for g in draft.groups)
                else "a model needs two layers in a row whose channels no output or input fixes",
            )
        draft = replace(draft, removed=choose(free))
        if x is None or proof is None:
            return draft, choose, None
        trial = draft.trial(proof)
        if trial.failure is None:
            return draft, choose, trial
        failures = _failures(draft, proof, trial.failure)
        failed.update(failures)
        more = equal_widths(draft, failed, proof) if retie else []
        tied = find_tied(ties, more, retie, x) if retie and more != tried else None
        if tied is None:
            draft = replace(draft, groups=[_frozen(group, failures) for group in draft.groups])
            tried = more
        else:
            draft, choose = tied
            proof = Proof(draft.model, x, draft.seen)
            ties, failed = [*ties, *more], set()


def _failures(draft: Draft, proof: Proof, failure: str) -> dict[str, str]:
    """Returns the groups at fault for a failed trial, each with the reason.

    Most models that fail do not even run, which is quicker to try than to compare.
    """
    misfit = draft.misfit(proof)
    if misfit is not None:
        return find_culprits(_ordered(draft), misfit, lambda part: draft.only(part).misfit(proof))
    return find_culprits(
        _ordered(draft), failure, lambda part: draft.only(part).trial(proof).failure
    )


def find_culprits(names: list[str], failure: str, fails: Failure) -> dict[str, str]:
    """Returns the groups whose cut alone fails; at least one, with the reason.

    Halves that fail are halved again. Where halves only fail together, the last group of the
    shortest start that fails is at fault.

    Args:
        names: The groups, whose cut fails as a whole.
        failure: How.
        fails: How the cut of some of them fails.
    """
    if len(names) == 1:
        return {names[0]: failure}
    middle = len(names) // 2
    found: dict[str, str] = {}
    for part in (names[:middle], names[middle:]):
        reason = fails(part)
        if reason is not None:
            found |= find_culprits(part, reason, fails)
    return found or _last_straw(names, failure, fails)


def _last_straw(names: list[str], failure: str, fails: Failure) -> dict[str, str]:
    low, high = len(names) // 2, len(names)
    while high - low > 1:
        middle = (low + high) // 2
        reason = fails(names[:middle])
        if reason is None:
            low = middle
        else:
            high, failure = middle, reason
    return {names[high - 1]: f"together with others, {failure}"}


def _ordered(draft: Draft) -> list[str]:
    """Returns the groups that lose units, those of like members side by side.

    Like groups fail alike, and neighbours are found together.
    """
    kinds = {group.name: _kind(draft, group) for group in draft.groups}
    return sorted(draft.removed, key=lambda name: kinds[name])


def _kind(draft: Draft, group: Group) -> list[tuple[str, str, int]]:
    members = ((*name.rpartition("."), dim) for name, dim in group.members)
    return [
        (type(draft.model.get_submodule(path)).__name__, attribute, dim)
        for path, _, attribute, dim in members
    ]


def _frozen(group: Group, failures: dict[str, str]) -> Group:
    if group.name not in failures:
        return group
    reason = f"fails its trial, so the model relies on its size: {failures[group.name]}"
    return replace(group, frozen=reason)
