"""Every torchvision model prunes to each target, or the test says what failed."""

import pytest
from torchvision_zoo import ZOO
from zoo import failures, sweep


@pytest.mark.zoo
@pytest.mark.parametrize("model", ZOO)
def test_a_model_prunes_to_every_target(model: str) -> None:
    row = sweep(model)
    assert not failures(row)
    assert row["prunable_share"] > 0
