import torch
import torch.nn.functional as F

from torchcompress.data.preprocess import Preprocess, three_channels


def test_grey_images_are_normalised_then_resized_then_repeated() -> None:
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    expected = F.interpolate(
        (images.float() / 255 - 0.286) / 0.353, size=(32, 32), mode="bilinear"
    ).repeat(1, 3, 1, 1)
    assert torch.equal(Preprocess((0.286,), (0.353,), 32)(images), expected)


def test_each_color_has_its_own_statistics() -> None:
    images = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    out = Preprocess((0.5, 0.0, 1.0), (0.5, 0.25, 1.0), 4)(images)
    assert out[0, :, 0, 0].tolist() == [1.0, 4.0, 0.0]


def test_color_images_stay_as_they_are() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert three_channels(images) is images
