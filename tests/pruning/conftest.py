"""The oracle of channel pruning: hooks that zero what each consumer reads, from the plan alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.pruning import PruningPlan

Consumer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def read_channels(module: Consumer, dims: dict[int, list[int]]) -> list[int]:
    """Returns the input channels that a layer no longer reads."""
    if isinstance(module, nn.ConvTranspose2d):
        return dims.get(0, [])
    gone = dims.get(1, [])
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    each = module.weight.shape[1]
    return [group * each + index for group in range(groups) for index in gone]


def zeroed_output(model: nn.Module, x: Any, plan: PruningPlan) -> Any:
    """Runs the original with the removed channels zeroed at every consumer's input."""
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, Consumer):
            gone = read_channels(module, plan.removed.get(f"{path}.weight", {}))
            dim = -1 if isinstance(module, nn.Linear) else 1

            def zero(
                _: nn.Module, args: tuple[Tensor, ...], gone: list[int] = gone, dim: int = dim
            ) -> tuple[Tensor, ...]:
                return (args[0].index_fill(dim, torch.tensor(gone, dtype=torch.long), 0),)

            handles.append(module.register_forward_pre_hook(zero))
    try:
        with torch.no_grad():
            return model(x)
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture
def oracle() -> Callable[[nn.Module, Any, PruningPlan], Any]:
    return zeroed_output
