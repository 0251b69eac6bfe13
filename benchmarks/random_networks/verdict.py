"""What a plan for a random network must hold, by an oracle that shares no code with the package.

A channel that no consumer reads is one whose weights are zero: so the reference is the original
whose removed slices of every parameter are zeroed. Norms over channels gather what they keep
before they normalise. Both run in float64, where right and wrong lie ten orders apart.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.network import Description, RandomNetwork
from random_networks.step import STEPS
from torchcompress import Target
from torchcompress.core.inputs import call, map_tensors, tensors_in
from torchcompress.errors import TargetUnreachable, UnsupportedError
from torchcompress.graph import count_macs
from torchcompress.pruning import PruningPlan, plan_channels

TOLERANCE = 1e-8
"""Largest difference over the largest output, in float64."""

EASY = Target(channels=0.75)
"""What is asked of a network that cannot meet its target."""

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def judge(
    description: Description, target: Target, **options: Any
) -> tuple[str, PruningPlan | None]:
    """Plans a cut of a described network and checks all that a plan promises.

    Args:
        description: The network.
        target: What remains.
        options: More arguments of `plan_channels`.

    Returns:
        `exact` where the output equals the reference, `inexact` where a group that the plan calls
        inexact leaves only the package's own trial to compare, or `refused: ` and why; with the
        plan.

    Raises:
        AssertionError: The plan breaks a promise.
    """
    network, x = RandomNetwork(description), description.example()
    before = copy.deepcopy(network)
    try:
        plan = plan_channels(network, x, target, **options)
    except TargetUnreachable:
        if target == EASY:
            return "refused: the target is out of reach", None
        judge(description, EASY, **options)
        return "refused: the target is out of reach", None
    except UnsupportedError as error:
        check_reason(network, str(error))
        return "refused: nothing can be pruned", None
    check_untouched(before, network)
    pruned = plan.apply(network)
    check_untouched(before, network)
    check_sizes(plan, pruned, target)
    check_macs(plan, count_macs(pruned, x), einsum=_has_einsum(description))
    for name, why in plan.frozen.items():
        check_reason(network, f"{name} {why}")
    check_state(network, pruned)
    check_backward(network, pruned, x)
    if plan.inexact and any(STEPS[node.kind].statistic for node in description.nodes):
        check_shapes(network, pruned, x)
        return "inexact", plan
    check_equal(zeroed(network.double(), pruned, plan), pruned.double(), in_double(x))
    return "exact", plan


def check_untouched(before: nn.Module, after: nn.Module) -> None:
    for (name, one), (_, other) in zip(
        before.state_dict().items(), after.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), f"planning changed {name}"


def _has_einsum(description: Description) -> bool:
    return any(
        node.options.get("einsum") or node.options.get("kind") == "einsum"
        for node in description.nodes
    )


def check_macs(plan: PruningPlan, macs: int, *, einsum: bool) -> None:
    """What is left is what the plan says; where one channel is left, einsum has no product."""
    planned = plan.macs[1]
    assert macs == planned or (einsum and macs < planned), f"{macs} MACs left, planned {planned}"


def check_sizes(plan: PruningPlan, pruned: nn.Module, target: Target) -> None:
    """The target is met, and what the plan says remains is what remains."""
    left = sum(parameter.numel() for parameter in pruned.parameters())
    assert left == plan.params[1], f"{left} parameters are left, the plan says {plan.params[1]}"
    if target.quantity in ("macs", "params"):
        whole, after = getattr(plan, target.quantity)
        assert after <= target.value * whole
    assert plan.removed, "nothing was pruned without a word"
    assert all(plan.frozen.values())
    assert all(group.kept >= 1 for group in plan.groups)
    assert 0 <= plan.frozen_share <= 1
    assert plan.difference is not None


def check_reason(network: RandomNetwork, why: str) -> None:
    """The rules knew what may go; the trial had to freeze nothing, unless code fixes positions."""
    fixed = any(made.fixed for made in network.steps) or _shuffles_twice(network.description)
    assert fixed or "fails its trial" not in why, f"only the trial found: {why}"


def _shuffles_twice(description: Description) -> bool:
    """Whether a shuffle reads another one, so that the code counts both ways through a grid."""
    made = len(description.inputs)
    makers: dict[int, str] = {}
    for node in description.nodes:
        if node.kind == "shuffle" and any(makers.get(index) == "shuffle" for index in node.reads):
            return True
        makers |= dict.fromkeys(range(made, made + STEPS[node.kind].results), node.kind)
        made += STEPS[node.kind].results
    return False


def check_state(network: nn.Module, pruned: nn.Module) -> None:
    """Ties, `requires_grad`, dtypes and modes are as before."""
    old, new = (dict(m.named_parameters(remove_duplicate=False)) for m in (network, pruned))
    assert old.keys() == new.keys()
    for name, parameter in new.items():
        assert parameter.requires_grad == old[name].requires_grad, name
        assert parameter.dtype == old[name].dtype, name
    assert len({id(p) for p in old.values()}) == len({id(p) for p in new.values()}), "untied"
    assert not pruned.training


def check_backward(network: nn.Module, pruned: nn.Module, x: Any) -> None:
    """A gradient reaches each parameter that had one."""
    reached = []
    for model in (copy.deepcopy(network), pruned):
        outputs = [value for _, value in tensors_in(call(model, x)) if value.requires_grad]
        if outputs:
            torch.stack([value.square().sum() for value in outputs]).sum().backward()
        reached.append({name for name, p in model.named_parameters() if p.grad is not None})
        for parameter in model.parameters():
            if parameter.grad is not None:
                assert parameter.grad.shape == parameter.shape
                assert torch.isfinite(parameter.grad).all()
    assert reached[0] == reached[1]


def check_shapes(network: nn.Module, pruned: nn.Module, x: Any) -> None:
    """The output has the structure that it had, and is finite."""
    with torch.no_grad():
        expected, found = (dict(tensors_in(call(model, x))) for model in (network, pruned))
    assert type(expected) is type(found)
    assert {n: t.shape for n, t in expected.items()} == {n: t.shape for n, t in found.items()}
    assert all(torch.isfinite(value).all() for value in found.values())


def check_equal(reference: nn.Module, pruned: nn.Module, x: Any) -> None:
    """Both give the same output on other inputs than those of the plan."""
    with torch.no_grad():
        expected, found = call(reference, x), call(pruned, x)
    assert type(expected) is type(found)
    left, right = dict(tensors_in(expected)), dict(tensors_in(found))
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.shape == right[name].shape, f"output {name} changed its shape"
        worst = float((value - right[name]).abs().max() / value.abs().max().clamp_min(1e-30))
        assert worst <= TOLERANCE, f"output {name} is wrong by {worst:.1e} of its largest value"


def in_double(x: Any) -> Any:
    """Returns inputs in float64, a little off those that the plan was made with."""
    return map_tensors(lambda t: t.double() * 1.25 - 0.1 if t.is_floating_point() else t, x)


def zeroed(network: nn.Module, pruned: nn.Module, plan: PruningPlan) -> nn.Module:
    """Returns the original with every slice of a parameter zeroed that the plan removes."""
    reference = copy.deepcopy(network)
    parameters = dict(reference.named_parameters())
    with torch.no_grad():
        for name, dims in plan.removed.items():
            for dim, indices in dims.items():
                if name in parameters:
                    parameters[name].index_fill_(dim, torch.tensor(indices), 0)
    for path, module in reference.named_modules():
        gone = plan.removed.get(f"{path}.weight", {}).get(0, [])
        if isinstance(module, NORMS) and gone:
            keep = [i for i in range(module.weight.numel()) if i not in set(gone)]
            kept = pruned.get_submodule(path)
            module.register_forward_hook(_over_kept(torch.tensor(keep), kept))
    return reference


def _over_kept(keep: Tensor, kept: nn.Module) -> Callable[..., Tensor]:
    """Returns a hook that normalises over the kept channels and leaves the others zero."""

    def normalise(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        dim = 1 if isinstance(module, nn.GroupNorm) else -1
        x = args[0].index_select(dim, keep)
        weight = module.weight[keep]
        if isinstance(module, nn.RMSNorm):
            y = F.rms_norm(x, (len(keep),), weight, module.eps)
        elif isinstance(module, nn.GroupNorm):
            assert isinstance(kept, nn.GroupNorm)
            y = F.group_norm(x, kept.num_groups, weight, module.bias[keep], module.eps)
        else:
            y = F.layer_norm(x, (len(keep),), weight, module.bias[keep], module.eps)
        return torch.zeros_like(output).index_copy(dim, keep, y)

    return normalise
