import torch
from torch import Tensor

from torchcompress.data.memory import MemoryLoader
from torchcompress.data.sources import Images


def _loader(*, shuffle: bool = True, seed: int = 0, augment: tuple[str, ...] = ()) -> MemoryLoader:
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 8, 8) + 0
    images[:, :, :, 0] = 200
    return MemoryLoader(
        Images(images, torch.arange(10)),
        lambda x: x.float(),
        4,
        augment=augment,
        shuffle=shuffle,
        seed=seed,
    )


def _pass(loader: MemoryLoader) -> tuple[Tensor, list[int]]:
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]).tolist()


def test_every_image_comes_once_with_its_own_label() -> None:
    loader = _loader()
    assert [len(x) for x, _ in loader] == [4, 4, 2]
    assert len(loader) == 3
    inputs, labels = _pass(loader)
    assert sorted(labels) == list(range(10))
    assert inputs[:, 0, 0, 1].tolist() == labels


def test_without_shuffling_the_order_is_kept() -> None:
    assert _pass(_loader(shuffle=False))[1] == list(range(10))


def test_an_epoch_can_be_repeated_and_each_differs() -> None:
    loader, other = _loader(augment=("flip", "crop")), _loader(augment=("flip", "crop"))
    first, second = _pass(loader), _pass(loader)
    assert first[1] != second[1]
    torch.manual_seed(123)
    other.set_epoch(1)
    inputs, labels = _pass(other)
    assert labels == second[1]
    assert torch.equal(inputs, second[0])
    assert _pass(_loader(seed=1))[1] != first[1]
