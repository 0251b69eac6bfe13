"""Batches of a data set that is held in memory."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from torchcompress.data.augment import AUGMENTATIONS
from torchcompress.data.seeding import epoch_generator
from torchcompress.data.sources import Images


class MemoryLoader:
    """Yields `(inputs, labels)`: float32 (N, C, H, W) and int64 (N,).

    The order and the augmentation depend on `seed` and the epoch alone, never on the global
    random state, so a run can be repeated and resumed. Each pass is the next epoch unless
    `set_epoch` names one.

    Args:
        data: The images and their labels.
        preprocess: From uint8 images (N, C, H, W) to the network's input.
        batch_size: Images a batch; the last batch may be smaller.
        augment: Names in `AUGMENTATIONS`, applied in this order to the stored pixels.
        shuffle: Whether each epoch has its own order.
        seed: Where all randomness comes from.
    """

    def __init__(
        self,
        data: Images,
        preprocess: Callable[[Tensor], Tensor],
        batch_size: int,
        *,
        augment: Sequence[str] = (),
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        self.data = data
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.augment = tuple(augment)
        self.shuffle = shuffle
        self.seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Makes the next pass the given epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = epoch_generator(self.seed, self._epoch)
        self._epoch += 1
        count = len(self.data)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for chosen in order.split(self.batch_size):
            images = self.data.images[chosen]
            for name in self.augment:
                images = AUGMENTATIONS[name](images, generator)
            yield self.preprocess(images), self.data.labels[chosen]
