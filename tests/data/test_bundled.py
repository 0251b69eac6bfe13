import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import resnet18

from torchcompress.core.errors import CompressError
from torchcompress.data.bundled import bundled_file


def test_a_file_is_found_with_and_without_its_ending() -> None:
    name = "resnet18_fashion_mnist_32px"
    assert bundled_file(name) == bundled_file(f"{name}.safetensors")
    assert bundled_file("LICENSE.fashion-mnist").read_text().count("Zalando") == 1


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(CompressError, match="did you mean 'resnet18_fashion_mnist_32px'"):
        bundled_file("resnet18_fashion_mnist_32")


def test_the_checkpoint_fills_the_network_in_half_precision() -> None:
    state = load_file(bundled_file("resnet18_fashion_mnist_32px"))
    floats = {t.dtype for name, t in state.items() if "num_batches_tracked" not in name}
    assert floats == {torch.float16}
    model = resnet18(num_classes=10)
    model.load_state_dict(state)
    assert int(state["bn1.num_batches_tracked"]) > 0


def test_the_images_take_less_than_six_megabytes() -> None:
    folder = bundled_file("LICENSE").parent
    assert sum(path.stat().st_size for path in folder.glob("*.gz")) < 6_000_000
