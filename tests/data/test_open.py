from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import ResNet18_Weights, resnet18

from torchcompress.core.errors import CompressError
from torchcompress.data import DATASETS, bundled_file, open_data
from torchcompress.data.sources import fashion_mnist_mini
from torchcompress.metrics.accuracy import evaluate


def test_the_bundled_network_keeps_its_accuracy_on_the_bundled_test_images() -> None:
    data = open_data("fashion-mnist-mini", image_size=32)
    model = resnet18(num_classes=10)
    model.load_state_dict(load_file(bundled_file("resnet18_fashion_mnist_32px")))
    assert evaluate(model, data.val).fraction >= 0.92


def test_what_is_opened_describes_itself() -> None:
    data = open_data("fashion-mnist-mini", image_size=20, batch_size=100, calibration=150)
    assert data.num_classes == len(data.class_names) == 10
    assert data.input_shape == (3, 20, 20)
    assert (len(data.train), len(data.val), len(data.calibration)) == (100, 20, 2)
    assert data.example().shape == (1, 3, 20, 20)
    assert data.example(120).shape == (120, 3, 20, 20)
    with pytest.raises(CompressError, match="151 inputs asked, 150"):
        data.example(151)


def test_calibration_images_are_training_images_without_augmentation() -> None:
    data = open_data("fashion-mnist-mini", image_size=28, calibration=64, augment=("flip", "crop"))
    source = fashion_mnist_mini(None)
    train = {image.tobytes() for image in source.train.images.numpy()}
    inputs = torch.cat([x for x, _ in data.calibration])[:, :1]
    pixels = ((inputs * 0.353 + 0.286) * 255).round().to(torch.uint8)
    assert len({image.tobytes() for image in pixels.numpy()} & train) == 64
    first, again = next(iter(data.calibration))[0], next(iter(data.calibration))[0]
    assert torch.equal(first, again)


def test_the_seed_decides_order_and_calibration() -> None:
    one, same, other = (
        open_data("fashion-mnist-mini", image_size=28, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(next(iter(one.train))[0], next(iter(same.train))[0])
    assert not torch.equal(next(iter(same.train))[0], next(iter(other.train))[0])
    assert not torch.equal(one.example(), other.example())


def test_a_preset_replaces_the_preprocessing() -> None:
    preset = ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=24, resize_size=32)
    data = open_data("fashion-mnist-mini", image_size=24, transform=preset)
    stored = fashion_mnist_mini(None).test.images[:1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(next(iter(data.val))[0][:1], preset(stored))
    with pytest.raises(CompressError, match=r"inputs of \(3, 24, 24\), not \(3, 32, 32\)"):
        open_data("fashion-mnist-mini", image_size=32, transform=preset)


def test_image_folders_open_by_the_same_call(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (30, 20), (40 * i, 0, 0)).save(folder / f"{i}.png")
    data = open_data("imagefolder", tmp_path, image_size=16, batch_size=4, calibration=5)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.val), len(data.calibration)) == (2, 2, 2)
    assert next(iter(data.train))[0].shape == (4, 3, 16, 16)
    (tmp_path / "val" / "dog").rename(tmp_path / "val" / "fox")
    with pytest.raises(CompressError, match="same classes: dog, fox"):
        open_data("imagefolder", tmp_path, image_size=16, calibration=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "fashion-mnist-mimi"}, "did you mean 'fashion-mnist-mini'"),
        ({"augment": ("flipp",)}, "did you mean 'flip'"),
        ({"image_size": 0}, "image_size"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"calibration": 0}, "calibration"),
        ({"calibration": 10_001}, "10001 images asked, 10000"),
        ({"workers": -1}, "workers"),
        ({"seed": True}, "seed"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    opener: Callable[..., Any] = open_data
    with pytest.raises(CompressError, match=message):
        opener(**({"dataset": "fashion-mnist-mini", "image_size": 28} | change))


def test_the_names_are_known_without_reading_anything() -> None:
    assert DATASETS == ("fashion-mnist-mini", "fashion-mnist", "cifar10", "cifar100", "imagefolder")
