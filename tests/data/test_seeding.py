import torch

from torchcompress.data.seeding import epoch_generator


def test_each_seed_and_epoch_has_its_own_numbers() -> None:
    drawn = {
        tuple(torch.rand(3, generator=epoch_generator(seed, epoch)).tolist())
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(drawn) == 16
    one, same = (torch.rand(3, generator=epoch_generator(2, 3)) for _ in range(2))
    assert torch.equal(one, same)
