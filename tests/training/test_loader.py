from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from torchcompress.core.errors import CompressError
from torchcompress.training.loader import (
    batch_size,
    generators_of,
    require_batches,
    without_last_single,
)


class _Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Any:
        return iter([torch.zeros(2)])


@pytest.mark.parametrize("train", [None, 3, (torch.zeros(1) for _ in range(2)), "stream"])
def test_a_training_loader_without_a_length_is_refused(train: Any) -> None:
    train = DataLoader(_Stream()) if train == "stream" else train
    with pytest.raises(CompressError, match=r"train: .* is no loader of known length"):
        require_batches(train, None)


def test_validation_needs_no_length_but_batches() -> None:
    require_batches([1], DataLoader(_Stream()))
    for train, val, name in (([], None, "train"), ([1], [], "val")):
        with pytest.raises(CompressError, match=f"{name}: the loader is empty"):
            require_batches(train, val)


def test_generators_are_found_wherever_torch_keeps_them() -> None:
    data, g = TensorDataset(torch.zeros(4, 1)), torch.Generator()
    sampler = RandomSampler(data, generator=g)
    assert generators_of(DataLoader(data, shuffle=True, generator=g)) == [g]
    assert generators_of(DataLoader(data, sampler=sampler)) == [g]
    batches = BatchSampler(sampler, 2, drop_last=False)
    assert generators_of(DataLoader(data, batch_sampler=batches)) == [g]
    assert generators_of(DataLoader(data, shuffle=True)) == generators_of([1]) == []
    other = torch.Generator()
    assert generators_of(DataLoader(data, sampler=sampler, generator=other)) == [other, g]


def test_the_size_of_a_batch_is_the_length_of_its_first_tensor() -> None:
    assert batch_size((torch.zeros(3, 2), torch.zeros(3))) == 3
    assert batch_size({"flag": torch.tensor(1), "x": torch.zeros(5)}) == 5
    for batch in ({}, {"flag": torch.tensor(1)}):
        with pytest.raises(CompressError, match="no tensor of samples"):
            batch_size(batch)


def _sizes(model: nn.Module, *sizes: int) -> list[int]:
    return [len(batch) for batch in without_last_single([torch.zeros(n) for n in sizes], model)]


def test_only_a_last_single_of_a_model_that_trains_batch_norm_is_left_out() -> None:
    norm, plain = nn.Sequential(nn.BatchNorm1d(2)), nn.Linear(2, 2)
    assert _sizes(norm, 4, 1, 4, 1) == [4, 1, 4]
    assert _sizes(plain, 4, 1, 4, 1) == [4, 1, 4, 1]
    assert _sizes(norm, 1, 1) == [1, 1]
    norm[0].eval()
    assert _sizes(norm, 4, 1) == [4, 1]
