"""Every operation that a torchvision model runs has a rule."""

import pytest
from torchvision_zoo import REPRESENTATIVE, ZOO, operations_without_a_rule


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_every_operation_of_a_representative_model_has_a_rule(name: str) -> None:
    assert operations_without_a_rule(name) == {}


@pytest.mark.zoo
@pytest.mark.parametrize("name", [name for name in ZOO if name not in REPRESENTATIVE])
def test_every_operation_of_a_model_has_a_rule(name: str) -> None:
    assert operations_without_a_rule(name) == {}
