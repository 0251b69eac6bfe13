import copy

import torch
from torch import nn

from torchcompress.reconstruction.batch_norms import reestimate_batch_norms
from torchcompress.reconstruction.capture import Calibration


def test_statistics_are_the_means_over_batches() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout()).eval()
    batches = [torch.randn(n, 3) for n in (20, 30)]
    reestimate_batch_norms(model, Calibration(batches, model))
    outputs = [model[0](x) for x in batches]
    mean = torch.stack([y.mean(0) for y in outputs]).mean(0)
    variance = torch.stack([y.var(0) for y in outputs]).mean(0)
    assert torch.allclose(model.get_buffer("1.running_mean"), mean, atol=1e-5)
    assert torch.allclose(model.get_buffer("1.running_var"), variance, atol=1e-5)


def test_only_statistics_of_reached_norms_change() -> None:
    model = nn.ModuleDict(
        {"used": nn.BatchNorm2d(3), "unused": nn.BatchNorm2d(3), "none": nn.BatchNorm2d(3)}
    )
    model["none"] = nn.BatchNorm2d(3, track_running_stats=False)
    before = copy.deepcopy(model.state_dict())
    calibration = Calibration(
        [torch.randn(4, 3, 2, 2)], model, lambda m, x: m.get_submodule("used")(x)
    )
    reestimate_batch_norms(model, calibration)
    changed = [n for n, t in model.state_dict().items() if not torch.equal(t, before[n])]
    assert changed == ["used.running_mean", "used.running_var"]
    assert model.training
    assert all(m.training for m in model.modules())
    assert model.get_submodule("used").momentum == 0.1
