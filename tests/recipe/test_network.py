from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from torchcompress.core.errors import CompressError
from torchcompress.core.history import Architecture, architecture
from torchcompress.recipe.network import build_network, check_architecture, check_weights


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "networks")


TINY = "tiny_network:tiny"


def test_the_number_of_classes_comes_from_the_data_and_is_remembered() -> None:
    model = build_network(TINY, {"width": 4}, None, num_classes=7)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
    assert architecture(model) == Architecture(TINY, {"num_classes": 7, "width": 4})


def test_weights_come_from_a_checkpoint(tmp_path: Path) -> None:
    source = build_network(TINY, {}, None, num_classes=10)
    save_file(source.state_dict(), tmp_path / "tiny.safetensors")
    model = build_network(TINY, {}, str(tmp_path / "tiny.safetensors"), num_classes=10)
    assert all(
        torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items()
    )


def test_bundled_weights_become_float32() -> None:
    weights = "bundled:resnet18_fashion_mnist_32px"
    check_weights("resnet18", weights)
    model = build_network("resnet18", {}, weights, num_classes=10)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file(build_network(TINY, {"width": 8}, None, 10).state_dict(), path)
    with pytest.raises(CompressError, match=r"0\.weight is \(8, 3, 3, 3\), the model's is \(16"):
        build_network(TINY, {}, str(path), num_classes=10)
    with pytest.raises(CompressError, match=r"belongs to another network: .* is not in the"):
        build_network("resnet18", {}, str(path), num_classes=10)
    with pytest.raises(CompressError, match=r"7\.weight is"):
        build_network(TINY, {"width": 8}, str(path), num_classes=9)


def test_weights_of_other_classes_are_refused_before_a_download() -> None:
    with pytest.raises(CompressError, match="tells 1000 classes apart, the data has 10"):
        build_network("resnet18", {}, "IMAGENET1K_V1", num_classes=10)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\x80\x04}q\x00.")
    with pytest.raises(CompressError, match="cannot be read"):
        build_network(TINY, {}, str(path), num_classes=10)


def test_names_are_checked_without_building() -> None:
    check_architecture("mobilenet_v2")
    check_architecture("not.imported:factory")
    check_weights("resnet18", "IMAGENET1K_V1")
    with pytest.raises(CompressError, match="fasterrcnn_resnet50_fpn"):
        check_architecture("fasterrcnn_resnet50_fpn")
    with pytest.raises(CompressError, match="a factory has no weights by name"):
        check_weights(TINY, "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("arch", "args", "part"),
    [
        ("resnet18", {"widht": 3}, "widht"),
        ("no_such_package:factory", {}, "cannot be imported"),
        ("tiny_network:missing", {}, "cannot be imported"),
    ],
)
def test_what_cannot_be_built_is_refused(arch: str, args: dict[str, int], part: str) -> None:
    with pytest.raises(CompressError, match=part):
        build_network(arch, args, None, num_classes=10)
