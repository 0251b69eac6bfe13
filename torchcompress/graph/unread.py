"""Results that a run makes and never reads."""

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from torchcompress.graph.operands import tensors_among


class Awaited:
    """Operations some of which nobody asks for their results.

    A view of a result is no reading of it. A result that outlives the run is taken as read.
    """

    def __init__(self) -> None:
        self._results: dict[int, tuple[StorageWeakRef, int]] = {}
        self._read: set[int] = set()

    def add(self, index: int, out: Any) -> None:
        """Awaits a reading of the results of operation number `index`."""
        for tensor in tensors_among(out):
            storage = tensor.untyped_storage()
            # The reference keeps the address from another storage.
            self._results[storage._cdata] = StorageWeakRef(storage), index

    def meet(self, func: torch._ops.OpOverload, operands: Any) -> None:
        """Notes what an operation reads."""
        if self._results and not func.is_view:
            for tensor in tensors_among(operands):
                if tensor.layout == torch.strided:
                    _, index = self._results.get(tensor.untyped_storage()._cdata, (None, -1))
                    self._read.add(index)

    def unread(self) -> set[int]:
        """Returns the operations whose results are gone and were never read."""
        held = {index for reference, index in self._results.values() if not reference.expired()}
        return {index for _, index in self._results.values()} - self._read - held
