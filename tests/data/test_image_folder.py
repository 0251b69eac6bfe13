from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from torchcompress.core.errors import CompressError
from torchcompress.data.image_folder import (
    FolderLoader,
    eval_transform,
    open_folder,
    train_transform,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 5), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(256, (40, 50, 3), dtype=torch.uint8)
                pixels[:10] = 255 * label
                Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    return tmp_path


def _loader(root: Path, workers: int = 0) -> FolderLoader:
    transform = train_transform(16, ("flip", "crop"), None)
    folder = open_folder(root, "train")
    return FolderLoader(folder, range(10), transform, 4, shuffle=True, workers=workers, seed=3)


def test_evaluation_resizes_crops_the_center_and_normalises(root: Path) -> None:
    image, _ = open_folder(root, "val")[0]
    whole = v2.functional.center_crop(v2.functional.resize(image, [16]), [14])
    values = v2.functional.to_dtype(v2.functional.to_image(whole), torch.float32, scale=True)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(eval_transform(14)(image), (values - mean) / std)


def test_order_and_augmentation_depend_on_seed_and_epoch_alone(root: Path) -> None:
    loader = _loader(root)
    first, second = list(loader), list(loader)
    assert sum(len(y) for _, y in first) == 10
    assert len(loader) == len(first) == 3
    torch.manual_seed(99)
    again = _loader(root, workers=1)
    again.set_epoch(1)
    for (x, y), (x2, y2) in zip(second, again, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert not torch.equal(first[0][0], second[0][0])


def test_a_preset_comes_last(root: Path) -> None:
    image, _ = open_folder(root, "train")[0]
    transform = train_transform(16, ("crop",), lambda im: torch.tensor(im.size))
    assert transform(image).tolist() == [16, 16]


def test_missing_folders_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="root/train/CLASS"):
        open_folder(None, "train")
    with pytest.raises(CompressError, match="missing"):
        open_folder(tmp_path, "train")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(CompressError, match="cat"):
        open_folder(tmp_path, "train")
