"""What torchvision's RAFT derives from a width stays what it was."""

import copy

import torch
from torchvision.models.optical_flow import raft_small

import torchcompress as tc
from torchcompress.pruning import plan_channels
from torchcompress.pruning.adapters import adapt_modules
from torchcompress.pruning.torchvision_models import PrunedCorrBlock


def test_the_features_and_the_state_of_raft_can_go() -> None:
    torch.manual_seed(0)
    model, images = raft_small().eval(), torch.randn(2, 1, 3, 128, 128)
    x = (images[0], images[1], 2)
    adapted = copy.deepcopy(model)
    adapt_modules(adapted, ["feature_encoder.conv.weight"])
    assert type(adapted.corr_block) is PrunedCorrBlock
    with torch.no_grad():
        for left, right in zip(model(*x), adapted(*x), strict=True):
            assert torch.equal(left, right)
    plan = plan_channels(model, x, tc.Target(channels=0.5))
    assert plan.frozen_share < 0.01
    gone = plan.removed["feature_encoder.conv.weight"][0]
    assert len(gone) == model.feature_encoder.conv.out_channels // 2
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.feature_encoder.conv.weight[gone] = 0
        zeroed.feature_encoder.conv.bias[gone] = 0
    others = ["context_encoder.*", "update_block.*", "feature_encoder.[!c]*", "*convnormrelu*"]
    alone = plan_channels(model, x, tc.Target(channels=0.5), exclude=others)
    assert alone.removed["feature_encoder.conv.weight"][0] == gone
    with torch.no_grad():
        for left, right in zip(zeroed(*x), alone.apply(model)(*x), strict=True):
            assert torch.allclose(left, right, atol=1e-4 * float(left.abs().max()))
