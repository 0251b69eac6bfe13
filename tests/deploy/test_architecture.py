import pytest
import torch
from torch import nn

from torchcompress.core.history import Architecture, architecture
from torchcompress.deploy import build
from torchcompress.errors import CompressError, UnsupportedError


def test_a_torchvision_model_is_built_by_name_without_touching_the_random_state() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    model = build(Architecture("squeezenet1_1", {"num_classes": 7}))
    assert torch.equal(torch.rand(1), expected)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert not model.training
    assert architecture(model) == Architecture("squeezenet1_1", {"num_classes": 7})


def test_a_factory_outside_torchvision_is_only_called_where_it_is_trusted() -> None:
    arch = Architecture("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    with pytest.raises(UnsupportedError, match=r"only run where it is trusted[\s\S]*trust="):
        build(arch)
    assert isinstance(build(arch, trust=["torch.nn:Linear"]), nn.Linear)


@pytest.mark.parametrize(
    ("arch", "error", "message"),
    [
        (Architecture("resnet81"), UnsupportedError, "did you mean 'resnet"),
        (Architecture("resnet18", {"weights": "DEFAULT"}), CompressError, "not an architecture"),
        (Architecture("resnet18", {"clases": 3}), CompressError, "cannot be built with"),
        (Architecture("resnet18", {"num_classes": -1}), CompressError, "cannot be built with"),
        (Architecture("torch.nn:Lin"), UnsupportedError, "cannot be imported"),
        (Architecture("torch.nope:Lin"), UnsupportedError, "cannot be imported"),
        (Architecture("fractions:Fraction"), CompressError, "returns a Fraction"),
    ],
)
def test_bad_architectures(arch: Architecture, error: type[CompressError], message: str) -> None:
    with pytest.raises(error, match=message):
        build(arch, trust=["torch.nn:Lin", "torch.nope:Lin", "fractions:Fraction"])
