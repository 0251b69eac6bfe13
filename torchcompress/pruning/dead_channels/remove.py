"""Deleting the channels of a model whose removal changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Inputs
from torchcompress.core.modules import named_tensors, unwrapped
from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.macs import RemainingCost
from torchcompress.graph.tracer import trace
from torchcompress.pruning.dead_channels.choice import Dead, find_dead
from torchcompress.pruning.dead_channels.comparison import compare_changed
from torchcompress.pruning.dead_channels.reads import Read, find_reads
from torchcompress.pruning.draft import Draft
from torchcompress.pruning.layer_globs import exclude_layers, globs
from torchcompress.pruning.proof import Proof, Trial
from torchcompress.pruning.search import find_culprits
from torchcompress.pruning.surgery import cut

M = TypeVar("M", bound=nn.Module)


def remove_dead_channels(
    model: M, x: Inputs, *, inplace: bool = False, exclude: Iterable[str] = ()
) -> M:
    """Returns a model without the channels whose removal changes nothing it computes in eval mode.

    A channel is dead where every weight that reads it is zero, or where what its weights, biases
    and norms leave of it is the same number for every input: a constant. Zero needs nothing; any
    other constant moves into the bias of each layer that reads it, or into the running mean of the
    batch norm that follows. Where it cannot, such as next to a border of zeros, the channel stays,
    and the plan says why. That the channel is constant follows from the operations of the run and
    not from samples. Of a model whose code decides on numbers of its input, as by `if x.sum() > 0`,
    only channels that nothing reads go. What its code makes of the shape of `x` is taken as it is.

    The plan is `tc.history(model)[-1]`; print it. It holds what is removed. The constants that
    moved are values of the smaller model, which its state_dict carries: apply the plan to a fresh
    model only to load that into it.

    Args:
        model: Any model, such as one with weights that were set to zero.
        x: Example inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        inplace: Cut `model` itself.
        exclude: Globs over module paths; these layers keep all channels that they make.

    Raises:
        CompressError: A glob that matches nothing.
        TraceError: The model fails on `x`.
        UnsupportedError: The smaller model gives other outputs, so that it is not returned.
    """
    inner = unwrapped(model)
    seen, excluded = trace(inner, x), globs(exclude, "exclude")
    groups = exclude_layers(channel_groups(seen), excluded)
    draft = Draft(inner, named_tensors(inner), seen, groups, {})
    draft, dead, trial = _proved(draft, find_reads(inner, x, seen), x)
    cost = RemainingCost(seen, {name for name, _ in inner.named_parameters()})
    plan = replace(draft.plan("dead channels", cost, trial), notes=dead.notes)
    moved = {
        name: np.delete(added, plan.removed.get(name, {}).get(0, []))
        for name, added in dead.moved.items()
    }
    if trial is not None:

        def change(copy: nn.Module) -> None:
            cut(copy, plan.removed, plan.mends)
            _move(copy, moved)

        difference, failure = compare_changed(inner, change, x, seen)
        if failure is not None:
            raise UnsupportedError(
                f"the model without its dead channels gives other outputs: {failure}",
                where=type(inner).__name__,
                hint="exclude some of " + ", ".join(draft.removed),
            )
        plan = replace(plan, difference=max(difference, trial.difference))
    smaller = plan.apply(model, inplace=inplace)
    _move(unwrapped(smaller), moved)
    return cast(M, smaller)


def _proved(draft: Draft, reads: Sequence[Read], x: Inputs) -> tuple[Draft, Dead, Trial | None]:
    """Returns the cut of what is dead, once it passes the trial of every cut.

    Groups whose cut fails are frozen with the reason.
    """
    proof = None
    while True:
        dead = find_dead(draft.groups, reads)
        draft = replace(draft, removed=dead.removed)
        if not dead.removed:
            return draft, dead, None
        proof = proof or Proof(draft.model, x, draft.seen)
        trial = draft.trial(proof)
        if trial.failure is None:
            return draft, dead, trial
        failures = _failures(draft, proof, trial.failure)
        draft = replace(draft, groups=[_frozen(group, failures) for group in draft.groups])


def _failures(draft: Draft, proof: Proof, failure: str) -> dict[str, str]:
    def fails(part: list[str]) -> str | None:
        return draft.only(part).trial(proof).failure

    return find_culprits(list(draft.removed), failure, fails)


def _frozen(group: Group, failures: Mapping[str, str]) -> Group:
    if group.name not in failures:
        return group
    return replace(group, frozen=f"fails its trial: {failures[group.name]}")


def _move(model: nn.Module, moved: Mapping[str, np.ndarray]) -> None:
    """Adds constants to biases and running means, in place; each tensor gets new memory."""
    tensors = named_tensors(model)
    for name, added in moved.items():
        tensor = tensors[name].data
        constants = torch.from_numpy(added).to(tensor.device)
        tensors[name].data = (tensor.double() + constants).to(tensor.dtype)
