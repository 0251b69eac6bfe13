import torch

from torchcompress.training.mixup import mixup


def test_inputs_and_targets_are_blended_alike() -> None:
    torch.manual_seed(0)
    targets = torch.eye(6)
    inputs = {"x": torch.eye(6) * 5, "ids": torch.arange(6)}
    mixed, rows = mixup(inputs, targets, 1.0)
    torch.testing.assert_close(mixed["x"], rows * 5)
    torch.testing.assert_close(rows.sum(1), torch.ones(6))
    torch.testing.assert_close(rows.sum(0), torch.ones(6))
    assert torch.equal(mixed["ids"], torch.arange(6))
    shares = rows.diagonal()[rows.diagonal() < 1]
    assert len(shares) > 0
    assert bool((shares == shares[0]).all())


def test_the_global_seed_decides() -> None:
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(mixup(torch.eye(5), torch.eye(5), 0.4)[1])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
