import copy

import torch
from torch import nn

from torchcompress.training.buffers import KeptBuffers


def test_buffers_are_as_last_kept() -> None:
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.BatchNorm2d(3))
    kept = KeptBuffers(model)
    for _ in range(2):
        model(torch.randn(4, 3, 2, 2))
        kept.keep()
    before = copy.deepcopy(model.state_dict())
    model(torch.full((4, 3, 2, 2), torch.nan))
    assert norm.running_mean is not None
    assert norm.running_mean.isnan().all()
    kept.restore()
    after = model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_a_model_without_buffers_has_nothing_to_keep() -> None:
    kept = KeptBuffers(nn.Linear(2, 2))
    kept.keep()
    kept.restore()


def test_buffers_that_took_another_shape_are_kept_too() -> None:
    norm = nn.BatchNorm2d(3)
    kept = KeptBuffers(norm)
    kept.keep()
    assert norm.running_mean is not None
    norm.running_mean.data = torch.ones(2)
    kept.keep()
    norm.running_mean.zero_()
    kept.restore()
    assert torch.equal(norm.running_mean, torch.ones(2))
