import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import CompressError
from torchcompress.pruning import plan_channels
from torchcompress.pruning.surgery import cut


def cut_rows(model: nn.Sequential) -> None:
    removal = {"0.weight": {0: [1]}, "0.bias": {0: [1]}, "1.weight": {1: [1]}}
    cut(model, removal, {"0": {"out_features": 5}, "1": {"in_features": 5}})


def test_gradients_flow_on_while_the_loss_before_the_cut_is_still_held() -> None:
    model, x = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), torch.randn(3, 4)
    held = model(x).sum()
    held.backward()
    cut_rows(model)
    fresh = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    fresh.load_state_dict(model.state_dict())
    model.zero_grad()
    for one in (model, fresh):
        one(x).sum().backward()
    for mine, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)


def test_hooks_on_a_parameter_stay() -> None:
    first, second, seen = nn.Linear(4, 6), nn.Linear(6, 2), list[torch.Size]()
    model = nn.Sequential(first, second)

    def after(parameter: Tensor) -> None:
        seen.append(parameter.shape)

    first.weight.register_hook(lambda gradient: gradient * 2)
    first.weight.register_post_accumulate_grad_hook(after)
    held = model(torch.ones(1, 4)).sum()
    held.backward()
    cut_rows(model)
    model.zero_grad()
    model(torch.ones(1, 4)).sum().backward()
    doubled = first.weight.grad
    assert doubled is not None
    torch.testing.assert_close(doubled, 2 * second.weight.detach().sum(0)[:, None].expand(5, 4))
    assert seen == [torch.Size([6, 4]), torch.Size([5, 4])]


@pytest.mark.parametrize(
    "gone", [[-1], [6], [1, 1], [2, 1], [0, 1, 2, 3, 4, 5], [True], [0.0], [None], ["0"]]
)
def test_a_plan_with_indices_that_cannot_be_changes_nothing(gone: list[Any]) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    plan = plan_channels(model, torch.randn(3, 4), Target(channels=0.5), round_to=1)
    data = plan_to_json(plan)
    data["removed"] = {**data["removed"], "1.weight": {"1": gone}}
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CompressError, match=r"of size 6 does not have|removed\.1\.weight\.1"):
        plan_from_json(data).apply(model, inplace=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_plan_that_removes_of_a_tensor_without_a_shape_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    data = plan_to_json(plan_channels(model, torch.randn(3, 4), Target(channels=0.5), round_to=1))
    data["removed"]["2.weight"] = {"0": [1]}
    with pytest.raises(CompressError, match=r"2\.weight"):
        plan_from_json(data).apply(model, inplace=True)
    assert model.get_parameter("0.weight").shape == (6, 4)
