"""Which outputs of a layer read which inputs, and what a constant input adds to each."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchcompress.graph.dependence_rules import border_taps
from torchcompress.graph.rules.registry import Args


@dataclass(frozen=True)
class Wiring:
    """The weights of a layer as groups of matrices.

    Attributes:
        taps: Of shape (groups, outputs of a group, inputs of a group, positions of the kernel).
        border: The positions that may read a border of zeros, a truth for each.
    """

    taps: Tensor
    border: Tensor

    def wired(self) -> np.ndarray:
        """Returns whether an output reads an input, of shape (outputs, inputs)."""
        return _spread(self.taps.ne(0).any(3))

    def bordered(self) -> np.ndarray:
        """Returns whether it does so where a border of zeros may be, of the same shape."""
        return _spread(self.taps[:, :, :, self.border].ne(0).any(3))

    def added(self, values: np.ndarray) -> np.ndarray:
        """Returns what constant inputs add to each output, where no border is in the way.

        Args:
            values: A constant for each input, zero where there is none.
        """
        groups, _, inputs, _ = self.taps.shape
        constants = torch.from_numpy(values).to(self.taps.device).view(groups, 1, inputs)
        read = (constants != 0).any(1).any(0)  # Only these columns are copied.
        sums = self.taps[:, :, read].double().sum(3)
        return (sums * constants[:, :, read]).sum(2).flatten().cpu().numpy()


def convolution_wiring(args: Args) -> Wiring:
    """Returns the wiring of a convolution.

    Args:
        args: Of `aten.convolution`.
    """
    weight, transposed, groups = args[1], args[6], args[8]
    taps = weight.detach().flatten(2).unflatten(0, (groups, -1))
    return Wiring(taps.transpose(1, 2) if transposed else taps, border_taps(args).flatten())


def product_wiring(weight: Tensor) -> Wiring:
    """Returns the wiring of a matrix product.

    Args:
        weight: Its second factor, of shape (inputs, outputs).
    """
    taps = weight.detach().T[None, :, :, None]
    return Wiring(taps, torch.zeros(1, dtype=torch.bool, device=taps.device))


def _spread(blocks: Tensor) -> np.ndarray:
    """Returns the block-diagonal matrix of the groups' matrices."""
    whole = blocks[0] if len(blocks) == 1 else torch.block_diag(*blocks)
    return whole.cpu().numpy()
