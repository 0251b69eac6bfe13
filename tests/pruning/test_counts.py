import numpy as np
import pytest
import torch
import torchvision

from torchcompress.graph import channel_groups, trace
from torchcompress.graph.macs import RemainingCost
from torchcompress.pruning.counts import CountedCost


@pytest.mark.parametrize("arch", ["resnet18", "shufflenet_v2_x0_5", "densenet121"])
def test_a_cost_by_counts_equals_the_cost_by_labels(arch: str) -> None:
    model = torchvision.models.get_model(arch, weights=None)
    seen = trace(model, torch.randn(1, 3, 64, 64))
    cost = RemainingCost(seen, {name for name, _ in model.named_parameters()})
    groups = [group for group in channel_groups(seen) if group.frozen is None]
    generator = np.random.default_rng(0)
    orders = [group.labels[generator.permutation(group.units)] for group in groups]
    macs, params = (CountedCost(t, orders) for t in (cost.mac_terms, cost.param_terms))
    for _ in range(3):
        counts = np.array([generator.integers(group.units) for group in groups])
        gone = np.concatenate([o[:n] for o, n in zip(orders, counts, strict=True)])
        assert macs(counts) == cost.macs(gone)
        assert params(counts) == cost.params(gone)


def test_nothing_costs_nothing() -> None:
    assert CountedCost([], [np.array([3, 1])])(np.array([1])) == 0
