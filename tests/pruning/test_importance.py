import numpy as np
import pytest
import torch

from torchcompress.errors import CompressError
from torchcompress.graph.groups import Group
from torchcompress.pruning.importance import magnitude


def group(**members: list[list[int]]) -> Group:
    placed = {}
    for place, indices in members.items():
        name, _, dim = place.rpartition("_")
        placed[name, int(dim)] = np.array(indices)
    count = len(next(iter(placed.values())))
    return Group("g", placed, np.arange(count), (), 1, None)


def test_a_score_is_the_norm_of_what_goes_over_the_layers_mean() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 5.0], [6.0, 8.0]])
    scores = magnitude([group(w_0=[[0], [1], [2]])], {"w": weight})
    assert scores["g"] == pytest.approx(np.array([5, 5, 10]) / (20 / 3))
    scores = magnitude([group(w_0=[[0], [1], [2]])], {"w": weight}, p=1)
    assert scores["g"] == pytest.approx(np.array([7, 5, 14]) / (26 / 3))


def test_tied_layers_are_averaged_whatever_their_scale() -> None:
    a, b = torch.diag(torch.tensor([1.0, 3.0])), torch.diag(torch.tensor([300.0, 100.0]))
    scores = magnitude([group(a_0=[[0], [1]], b_1=[[0], [1]])], {"a": a, "b": b})
    assert scores["g"] == pytest.approx([1.0, 1.0])


def test_a_unit_of_several_slices_counts_them_all_and_vectors_do_not_count() -> None:
    tensors = {"w": torch.tensor([[3.0], [1.0], [4.0], [1.0]]), "b": torch.tensor([9.0, 0, 0, 0])}
    scores = magnitude([group(w_0=[[0, 2], [1, 3]], b_0=[[0, 2], [1, 3]])], tensors)
    sizes = np.array([5.0, 2**0.5])
    assert scores["g"] == pytest.approx(sizes / sizes.mean())


def test_an_order_that_is_not_positive_is_refused() -> None:
    with pytest.raises(CompressError, match="not positive"):
        magnitude([], {}, p=0)
