"""Torch-Pruning, asked for what torchcompress is asked for.

Both rank channels by the L2 norm of all that goes with them, over the layer's mean. Layers whose
channels are the model's output are named to Torch-Pruning, which cannot tell them.
"""

import copy
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from torchcompress.core.inputs import Inputs, call, tensors_in
from torchcompress.graph import channel_groups, count_macs, trace

SEARCH_STEPS = 10


def output_layers(model: nn.Module, x: Inputs) -> list[str]:
    """Returns the paths of the layers whose channels reach the output."""
    return [
        path
        for group in channel_groups(trace(model, x))
        if group.frozen == "reaches the output"
        for path in group.producers
    ]


def make_pruner(
    model: nn.Module,
    x: Inputs,
    ratio: float,
    *,
    ignored: list[str],
    scope: str = "layer",
    round_to: int | None = None,
) -> Any:
    """Returns a Torch-Pruning pruner, whose dependency graph is built by then."""
    kind: Any = tp.pruner.BasePruner
    return kind(
        model,
        x,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=scope == "global",
        round_to=round_to,
        ignored_layers=[model.get_submodule(path) for path in ignored],
    )


def plan(model: nn.Module, x: Inputs, ratio: float, ignored: list[str]) -> int:
    """Builds the graph, ranks and picks the channels of every group; nothing is cut.

    Returns:
        How many groups lose channels.
    """
    return len(list(make_pruner(model, x, ratio, ignored=ignored).step(interactive=True)))


def pruned(
    model: nn.Module,
    x: Inputs,
    ratio: float,
    *,
    ignored: list[str],
    scope: str,
    round_to: int | None,
) -> nn.Module:
    """Returns a copy without `ratio` of its channels."""
    smaller = copy.deepcopy(model)
    make_pruner(smaller, x, ratio, ignored=ignored, scope=scope, round_to=round_to).step()
    return smaller


def pruned_to_macs(
    model: nn.Module, x: Inputs, kept: float, *, round_to: int | None = None
) -> nn.Module:
    """Returns a copy with at most `kept` of the MACs, ranked globally.

    Torch-Pruning takes a ratio of channels, so the least ratio that is enough is searched.
    """
    limit = kept * count_macs(model, x)
    ignored = output_layers(model, x)
    low, high, best = 0.0, 1.0, None
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        found = pruned(model, x, middle, ignored=ignored, scope="global", round_to=round_to)
        if count_macs(found, x) <= limit:
            high, best = middle, found
        else:
            low = middle
    if best is None:
        raise RuntimeError(f"no ratio of channels leaves {kept:g} of the MACs")
    return best


def still_works(before: nn.Module, after: nn.Module, x: Inputs) -> bool:
    """Whether a pruned model runs and its outputs have the shapes that they had."""
    with torch.no_grad():
        expected, found = (
            {name: t.shape for name, t in tensors_in(call(model, x))} for model in (before, after)
        )
    return expected == found


def prunable_share(model: nn.Module, x: Inputs, ignored: list[str]) -> float:
    """Returns the share of the parameters that lie in a slice of any of its groups."""
    pruner = make_pruner(model, x, 0.5, ignored=ignored)
    covered = {id(p): torch.zeros_like(p, dtype=torch.bool) for p in model.parameters()}
    groups = pruner.DG.get_all_groups(
        ignored_layers=pruner.ignored_layers, root_module_types=pruner.root_module_types
    )
    for group in groups:
        for dependency, indices in group:
            _cover(covered, dependency, list(indices), pruner.DG)
    taken = sum(int(mask.sum()) for mask in covered.values())
    return taken / sum(mask.numel() for mask in covered.values())


def _cover(covered: dict[int, Tensor], dependency: Any, indices: list[int], graph: Any) -> None:
    """Marks what one layer of a group loses when these channels go."""
    module, handler = dependency.target.module, dependency.handler
    if isinstance(module, nn.Parameter):
        dim = next(dim for p, dim in graph.unwrapped_parameters if p is module)
        _mark(covered, module, dim, indices)
        return
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    leaves = graph.is_out_channel_pruning_fn(handler)
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() == 1:
            if leaves or "weight" in name:
                _mark(covered, parameter, 0, indices)
        else:
            dim = int(not leaves) if not transposed else int(leaves)
            _mark(covered, parameter, dim, [i % parameter.shape[dim] for i in indices])


def _mark(covered: dict[int, Tensor], parameter: Tensor, dim: int, indices: list[int]) -> None:
    if id(parameter) in covered and max(indices) < parameter.shape[dim]:
        covered[id(parameter)].index_fill_(dim, torch.tensor(sorted(set(indices))), True)
