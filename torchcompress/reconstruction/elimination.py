"""Taking inputs away from a layer, the rest of its weights making up for them."""

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import DAMPING, inverse
from torchcompress.reconstruction.statistics import WIDEST_DOUBLE, Moments


class Elimination:
    """A layer that loses units of its inputs, and the outputs that this costs.

    A unit is one or more input channels with all their kernel positions. Once it goes, the other
    weights change so that the outputs change least. This is the optimal brain surgeon (Hassibi and
    Stork 1993) with whole units in place of weights, as in ZipLM (Kurtic et al. 2023).

    Layers of more than `WIDEST_DOUBLE` columns change no other weight: a unit costs what its own
    columns give.

    Args:
        weight: (groups, outputs, columns); a column is a kernel position and a channel, the
            channel innermost.
        moments: Of the layer's inputs and outputs, about their means where the layer has a
            constant that is free to change.
        kernel: Kernel positions in a column.
        channels: The channels of each unit, (units, channels of a unit), counted in a group.

    Attributes:
        weight: The weights as they are by now, (groups, outputs, columns), float64.
    """

    def __init__(self, weight: Tensor, moments: Moments, kernel: int, channels: Tensor) -> None:
        self.weight = weight.to(moments.xx.dtype, copy=True)
        energy = moments.xx.diagonal(dim1=1, dim2=2).unflatten(1, (kernel, -1))
        live = energy.sum((0, 2)).nonzero()[:, 0]
        width = energy.shape[2]
        self._live = (live[:, None] * width + torch.arange(width).to(live)).flatten()
        places = torch.arange(len(live)).to(live)[:, None] * width
        self._columns = (places + channels.to(live)[:, None, :]).flatten(1)
        self._scale = 1 / float(moments.yy.sum().clamp(min=torch.finfo(torch.float64).tiny))
        gram = moments.xx[:, self._live][:, :, self._live]
        self._gram = gram if len(self._live) > WIDEST_DOUBLE else None
        self._inverse = torch.zeros(0) if self._gram is not None else inverse(gram, DAMPING)

    def costs(self, units: Tensor) -> Tensor:
        """Returns the squared error of each unit's removal, over the energy of the outputs.

        Args:
            units: Positions of units that are still there, (n,).

        Returns:
            (n,), float64.
        """
        columns = self._columns[units]
        own = self.weight[:, :, self._live][:, :, columns].permute(0, 2, 3, 1)
        if self._gram is None:
            block = self._inverse[:, columns[:, :, None], columns[:, None, :]]
            spread = torch.linalg.solve(block, own)
        else:
            spread = self._gram[:, columns[:, :, None], columns[:, None, :]] @ own
        return self._scale * (own * spread).sum((0, 2, 3)).double()

    def remove(self, units: Tensor) -> None:
        """Takes units away together.

        Args:
            units: Their positions, (n,).
        """
        gone = self._columns[units].flatten()
        if self._gram is None:
            rows = self._inverse[:, gone]
            change = torch.linalg.solve(rows[:, :, gone], rows)
            lost = self.weight[:, :, self._live[gone]]
            self.weight[:, :, self._live] -= lost @ change
            self._inverse -= rows.mT @ change
            self._inverse[:, gone] = 0
            self._inverse[:, :, gone] = 0
        self.weight[:, :, self._live[gone]] = 0
