"""Where labels are kept while a model runs: by storage and view."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from torchcompress.graph.couplings import Couplings
from torchcompress.graph.labels import Labels, along, varying

View = tuple[tuple[int, ...], tuple[int, ...], int]


@dataclass
class _Stored:
    reference: StorageWeakRef
    length: int
    views: dict[View, Labels] = field(default_factory=dict)


class LabelStore:
    """Labels of every tensor seen, keyed by storage with size, stride and offset.

    A weak reference holds each storage's address, so that a new tensor never inherits the labels
    of a dead one.
    """

    def __init__(self, couplings: Couplings) -> None:
        self._couplings = couplings
        self._storages: dict[int, _Stored] = {}
        self._purge_at = 256

    def get(self, tensor: Tensor) -> Labels:
        """Returns a tensor's labels; a view never seen before reads those of its storage."""
        stored = self._storages.get(_address(tensor))
        if stored is None:
            return Labels.none(tensor.dim())
        view = _view(tensor)
        labels = stored.views.get(view)
        if labels is None:
            others = list(stored.views.items())
            labels = self._reread(stored, view, Labels.none(tensor.dim()), others)
            stored.views[view] = labels
        return labels

    def set(self, tensor: Tensor, labels: Labels) -> None:
        """Labels a tensor that an operation made or returned as a view."""
        if tensor.layout != torch.strided:
            return
        self._stored(tensor).views[_view(tensor)] = labels

    def write(self, tensor: Tensor, labels: Labels) -> None:
        """Labels a tensor that was written in place, and every other view of its storage."""
        stored, view = self._stored(tensor), _view(tensor)
        if labels.neutral and tensor.numel() < stored.length:
            labels = replace(labels, neutral=False)
        before = stored.views.get(view)
        for other, old in stored.views.items():
            if old.neutral:
                stored.views[other] = replace(old, neutral=False)
        stored.views[view] = labels
        if before is not None and before.same(labels):
            return
        for other, old in list(stored.views.items()):
            if other != view:
                stored.views[other] = self._reread(stored, other, old, [(view, labels)])

    def _stored(self, tensor: Tensor) -> _Stored:
        address = _address(tensor)
        if address not in self._storages:
            self._purge()
            storage = tensor.untyped_storage()
            length = storage.nbytes() // max(tensor.element_size(), 1)
            self._storages[address] = _Stored(StorageWeakRef(storage), length)
        return self._storages[address]

    def _purge(self) -> None:
        if len(self._storages) < self._purge_at:
            return
        for address, stored in list(self._storages.items()):
            if stored.reference.expired():
                del self._storages[address]
        self._purge_at = max(256, 2 * len(self._storages))

    def _reread(
        self, stored: _Stored, view: View, old: Labels, writes: list[tuple[View, Labels]]
    ) -> Labels:
        """Returns the labels of a view after writes through others, or freezes what is unclear."""
        sources = [(view, old), *writes]
        if not any(labels.labelled for _, labels in sources):
            return old
        fits = all(_end(geometry) <= stored.length for geometry, _ in sources)
        if fits and all(len(labels.vectors()) <= 1 for _, labels in sources):
            flat = np.zeros(stored.length, np.int64)
            for geometry, labels in sources:
                if labels.labelled:
                    _strided(flat, geometry)[...] = _spread(labels, geometry)
            seen = _strided(flat, view)
            for dim in range(seen.ndim):
                vector = along(seen, dim)
                if vector is not None:
                    return Labels.none(seen.ndim).with_dim(dim, varying(vector))
        for _, labels in sources:
            for vector in labels.vectors():
                self._couplings.freeze(vector, "written or read through an overlapping view")
        return Labels.none(len(view[0]))


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else 0


def _view(tensor: Tensor) -> View:
    return tensor.shape, tensor.stride(), int(tensor.storage_offset())


def _end(view: View) -> int:
    size, stride, offset = view
    if 0 in size:
        return 0
    return offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))


def _strided(flat: np.ndarray, view: View) -> np.ndarray:
    size, stride, offset = view
    item = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat[offset:], size, [step * item for step in stride])


def _spread(labels: Labels, view: View) -> np.ndarray:
    dim, vector = next((d, v) for d, v in enumerate(labels.dims) if v is not None)
    shape = [1] * len(view[0])
    shape[dim] = view[0][dim]
    return np.broadcast_to(vector.reshape(shape), view[0])
