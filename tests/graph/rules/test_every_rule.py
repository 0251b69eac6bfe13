"""No rule loses a label, and none says that a channel can go where the operation disagrees.

The oracle is the operation: a channel of an operand is changed, or left out, and the results are
looked at.
"""

from typing import Any

import numpy as np
import pytest
import torch
from op_samples import SAMPLES, Sample
from torch import Tensor, nn

from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.watcher import Watcher


class Run:
    """One traced call of an operation whose operands are labelled in some dimensions."""

    def __init__(self, sample: Sample, labelled: int | None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.call = sample.call
        self.operands = [torch.rand(shape, generator=generator) for shape in sample.shapes]
        self.tracer = Watcher(nn.Module())
        self.given: list[list[Vector | None]] = []
        count = 0
        for tensor in self.operands:
            vectors: list[Vector | None] = []
            for size in tensor.shape:
                chosen = size > 1 and labelled in (None, count)
                vectors.append(self.tracer.couplings.new(size) if chosen else None)
                count += 1
            self.given.append(vectors)
            self.tracer._store.set(tensor, Labels(tuple(vectors)))
        with torch.no_grad(), self.tracer:
            self.results = results(self.call(*self.operands))
        self.tracer.couplings.resolve()
        self.carried = [self.tracer.labels(result).dims for result in self.results]

    def free(self) -> set[int]:
        """Labels that may be removed and that no contraction or reduction has ended."""
        couplings = self.tracer.couplings
        every = {
            couplings.find(int(label))
            for vectors in self.given
            for vector in vectors
            if vector is not None
            for label in vector
        }
        events = (*self.tracer.contractions, *self.tracer.selections)
        masks = [m for e in events for m in getattr(e, "masks", getattr(e, "reads", ()))]
        ended = {couplings.find(int(label)) for mask in masks for label in mask.labels}
        return {label for label in every if couplings.reason(label) is None} - ended

    def where(self, dims: Any, shape: tuple[int, ...], label: int) -> np.ndarray:
        """Returns which elements carry a label."""
        seen = np.zeros(shape, bool)
        for dim, vector in enumerate(dims):
            if vector is not None:
                hit = self.tracer.couplings.roots(vector) == label
                seen |= hit.reshape([-1 if d == dim else 1 for d in range(len(shape))])
        return seen

    def without(self, tensor: Tensor, dims: Any, label: int) -> Tensor:
        """Returns a tensor without what carries a label."""
        for dim, vector in enumerate(dims):
            if vector is not None:
                kept = np.flatnonzero(self.tracer.couplings.roots(vector) != label)
                tensor = tensor.index_select(dim, torch.from_numpy(kept))
        return tensor


def results(out: Any) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else list(out)


def axes(sample: Sample) -> list[int | None]:
    return [None, *range(sum(len(shape) for shape in sample.shapes))]


@pytest.mark.parametrize("name", SAMPLES)
def test_what_a_channel_changes_carries_its_label(name: str) -> None:
    for labelled in axes(SAMPLES[name]):
        run = Run(SAMPLES[name], labelled)
        assert not run.tracer.unknown
        for label in run.free():
            moved = []
            for tensor, dims in zip(run.operands, run.given, strict=True):
                mark = torch.from_numpy(run.where(dims, tuple(tensor.shape), label))
                moved.append(torch.where(mark, 1 - tensor, tensor))
            for before, after, dims in zip(
                run.results, results(run.call(*moved)), run.carried, strict=True
            ):
                assert before.shape == after.shape, (labelled, "the shape hangs on values")
                same = (before == after) | (before.isnan() & after.isnan())
                lost = ~same.numpy() & ~run.where(dims, tuple(before.shape), label)
                assert not lost.any(), (labelled, label)


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if not sample.fixed])
def test_fewer_channels_give_fewer_of_the_same_results(name: str) -> None:
    for labelled in axes(SAMPLES[name]):
        run = Run(SAMPLES[name], labelled)
        for label in run.free():
            pairs = zip(run.operands, run.given, strict=True)
            cut = [run.without(tensor, dims, label) for tensor, dims in pairs]
            if any(tensor.numel() == 0 for tensor in cut):
                continue
            for before, after, dims in zip(
                run.results, results(run.call(*cut)), run.carried, strict=True
            ):
                expected = run.without(before, dims, label)
                assert expected.shape == after.shape, (labelled, label)
                assert torch.allclose(expected, after, equal_nan=True), (labelled, label)
