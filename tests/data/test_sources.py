import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from torchcompress.core.errors import CompressError
from torchcompress.data.idx import write_idx
from torchcompress.data.sources import (
    DEBIAN_FOLDER,
    cifar10,
    cifar100,
    fashion_mnist,
    fashion_mnist_mini,
)

_NAMES = {"train": 6, "t10k": 4}


def _write_fashion(folder: Path, *, labels: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in _NAMES.items():
        images = torch.randint(256, (count, 28, 28), dtype=torch.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        numbers = torch.arange(labels or count, dtype=torch.uint8)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", numbers)


def test_the_bundled_set_is_balanced_and_its_splits_do_not_meet() -> None:
    source = fashion_mnist_mini(None)
    assert source.train.images.shape == (10_000, 1, 28, 28)
    assert source.test.images.shape == (2_000, 1, 28, 28)
    assert source.train.labels.bincount().tolist() == [1000] * 10
    assert source.test.labels.bincount().tolist() == [200] * 10
    train = {image.numpy().tobytes() for image in source.train.images}
    assert not any(image.numpy().tobytes() in train for image in source.test.images)
    with pytest.raises(CompressError, match="takes no root"):
        fashion_mnist_mini(Path("somewhere"))


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_bundled_images_stand_in_their_own_splits_of_the_full_set() -> None:
    full, mini = fashion_mnist(None), fashion_mnist_mini(None)
    for whole, part in ((full.train, mini.train), (full.test, mini.test)):
        known = {
            (image.tobytes(), label)
            for image, label in zip(whole.images.numpy(), whole.labels.tolist(), strict=True)
        }
        drawn = zip(part.images.numpy(), part.labels.tolist(), strict=True)
        assert all((image.tobytes(), label) in known for image, label in drawn)


@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw"])
def test_both_layouts_are_found(tmp_path: Path, inside: str) -> None:
    _write_fashion(tmp_path / inside)
    source = fashion_mnist(tmp_path)
    assert (len(source.train), len(source.test)) == (6, 4)
    assert source.train.labels.dtype == torch.int64


def test_unzipped_files_are_found(tmp_path: Path) -> None:
    for split, count in _NAMES.items():
        header = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28])
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(header + bytes(count * 784))
        header = bytes([0, 0, 8, 1, 0, 0, 0, count])
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(header + bytes(count))
    assert len(fashion_mnist(tmp_path).train) == 6


def test_a_missing_folder_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="train-images-idx3-ubyte") as caught:
        fashion_mnist(tmp_path / "nowhere")
    assert "nowhere" in str(caught.value)


def test_images_and_labels_that_do_not_match_are_refused(tmp_path: Path) -> None:
    _write_fashion(tmp_path, labels=5)
    with pytest.raises(CompressError, match="do not belong together"):
        fashion_mnist(tmp_path)


def test_cifar_needs_a_folder_and_says_what_goes_there(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="cifar-10-batches-py"):
        cifar10(None)
    with pytest.raises(CompressError, match="cifar-100-python is not here"):
        cifar100(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(CompressError, match="missing or damaged"):
        cifar10(tmp_path)


def test_cifar_is_read_from_torchvisions_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    for split in ("train", "test"):
        with (folder / split).open("wb") as file:
            pickle.dump({"data": pixels, "fine_labels": [3, 1]}, file)
    with (folder / "meta").open("wb") as file:
        pickle.dump({"fine_label_names": [f"class {i}" for i in range(100)]}, file)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    source = cifar100(tmp_path)
    assert torch.equal(source.train.images, torch.from_numpy(pixels).reshape(2, 3, 32, 32))
    assert source.test.labels.tolist() == [3, 1]
    assert len(source.class_names) == 100
