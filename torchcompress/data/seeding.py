"""Randomness that depends on the seed and the epoch alone, so that a run can be resumed."""

from torch import Generator


def epoch_generator(seed: int, epoch: int) -> Generator:
    """Returns a generator of its own for each seed and epoch.

    Args:
        seed: From 0.
        epoch: From 0 to below 2**20.
    """
    return Generator().manual_seed((seed << 20) + epoch)
