"""A model's buffers as they were before a step that is not taken."""

import torch
from torch import Tensor, nn


class KeptBuffers:
    """Copies of a model's buffers, into memory that is taken once and again after a cut.

    A forward pass moves BatchNorm's running statistics before the loss is known.

    Args:
        model: Its buffers are kept; one that it replaces by another tensor later is not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Copies the buffers."""
        if [kept.shape for kept in self._kept] != [buffer.shape for buffer in self._buffers]:
            self._kept = [torch.empty_like(buffer) for buffer in self._buffers]
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def restore(self) -> None:
        """Gives the buffers the values last kept."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)  # pyright: ignore[reportPrivateImportUsage]
