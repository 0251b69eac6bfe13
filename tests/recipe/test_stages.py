from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchcompress.data import Data
from torchcompress.recipe.stage_schema import PruneChannels, TargetSection
from torchcompress.recipe.stages import Context, run_stage


def test_channels_that_the_trial_could_not_see_are_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 2, 3)).eval()
    with torch.no_grad():
        model.get_parameter("0.bias").sub_(100)
    image = torch.rand(1, 3, 8, 8)
    batches: Any = [(image, torch.zeros(1))]
    data = Data(batches, batches, batches, ("a", "b"), (3, 8, 8))
    stage = PruneChannels(kind="prune.channels", target=TargetSection(channels=0.5))
    context = Context(data=data, example=image, teacher=model, seed=0, log=tmp_path / "log.csv")
    _, (table,) = run_stage(stage, model, context)
    notes = {row[0]: row[-1] for row in table.rows}
    assert notes["0"] == "not tested"
