import torch
import torchvision
from torch import nn

from torchcompress.graph import channel_groups, trace
from torchcompress.graph.groups import Group
from torchcompress.pruning.scope import rivals


def free_groups(model: nn.Module) -> list[Group]:
    groups = channel_groups(trace(model, torch.randn(1, 3, 32, 32)))
    return [group for group in groups if group.frozen is None]


def test_global_ranks_all_together_and_layer_none() -> None:
    model = torchvision.models.resnet18(weights=None)
    groups = free_groups(model)
    assert rivals(groups, "global", model) == [list(range(len(groups)))]
    assert rivals(groups, "layer", model) == [[i] for i in range(len(groups))]


def test_isomorphic_ranks_like_structures_of_any_size_together() -> None:
    model = torchvision.models.resnet18(weights=None)
    groups = free_groups(model)
    classes = [[groups[i].name for i in same] for same in rivals(groups, "isomorphic", model)]
    inner = [f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)]
    assert inner in classes
    streams = [same for same in classes if same != inner]
    assert sum(map(len, streams)) == 4
    assert not any(set(same) & set(inner) for same in streams)


def test_a_depthwise_layer_makes_another_structure() -> None:
    def block(groups: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=groups))

    model = nn.Sequential(nn.Conv2d(3, 8, 1), block(1), block(8), nn.Conv2d(8, 2, 1)).eval()
    groups = free_groups(model)
    classes = [[groups[i].name for i in same] for same in rivals(groups, "isomorphic", model)]
    assert classes == [["0", "1.0", "1.1"], ["2.0"]]
