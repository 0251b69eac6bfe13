from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchcompress.errors import CompressError, UnsupportedError
from torchcompress.graph.groups import Group
from torchcompress.pruning.importance import (
    BatchNormScale,
    Lamp,
    Magnitude,
    Random,
    Scores,
)

Score = Callable[..., Scores]


def group(**members: list[list[int]]) -> Group:
    placed = {}
    for place, indices in members.items():
        name, _, dim = place.rpartition("_")
        placed[name, int(dim)] = np.array(indices)
    count = len(next(iter(placed.values())))
    return Group("g", placed, np.arange(count), (), 1, None)


def size(one: Group, tensors: dict[str, Tensor], importance: Magnitude) -> np.ndarray:
    return importance.of([one], tensors)["g"]


def depthwise() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 2, 1, bias=False),
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 2, 3, groups=2, bias=False),
        nn.Conv2d(2, 4, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 2, 1, bias=False),
    ).eval()


WEIGHT = torch.tensor([[3.0, 4.0], [0.0, 5.0], [6.0, 8.0]])


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        (Magnitude(), np.array([5, 5, 10]) / (20 / 3)),
        (Magnitude(p=1), np.array([7, 5, 14]) / (26 / 3)),
        (Magnitude(p=1, normalize="sum"), np.array([7, 5, 14]) / 26),
        (Magnitude(p=1, normalize="max"), np.array([7, 5, 14]) / 14),
        (Magnitude(p=3, normalize="none"), np.array([91, 125, 728]) ** (1 / 3)),
    ],
)
def test_a_magnitude_is_the_norm_of_what_goes(importance: Magnitude, expected: np.ndarray) -> None:
    found = size(group(w_0=[[0], [1], [2]]), {"w": WEIGHT}, importance)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("p", [0.1, 1, 2, 10, 100, float("inf")])
def test_a_magnitude_neither_underflows_nor_overflows(p: float) -> None:
    weight = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    rows = weight.T.double().numpy()
    expected = np.array([np.linalg.norm(row, p) for row in rows])
    for factor in (1e-30, 1e-4, 1.0, 1e30):
        found = size(
            group(w_1=[[i] for i in range(7)]), {"w": weight * factor},
            Magnitude(p=p, normalize="none"),
        )  # fmt: skip
        assert found == pytest.approx(expected * factor, rel=1e-5)


def test_an_order_too_small_for_the_weight_is_not_blamed_on_the_weight() -> None:
    with pytest.raises(CompressError, match=r"w: its norms of order 0\.001 are"):
        size(group(w_0=[[0]]), {"w": torch.ones(1, 99)}, Magnitude(p=0.001))


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [("mean", [6, 5.5]), ("sum", [12, 11]), ("max", [9, 6]), ("first", [3, 5])],
)
def test_coupled_weights_are_reduced_as_asked(reduce: str, expected: list[float]) -> None:
    tensors = {"a": torch.diag(torch.tensor([3.0, 5.0])), "b": torch.diag(torch.tensor([9.0, 6]))}
    importance = Magnitude(reduce=reduce, normalize="none")  # pyright: ignore[reportArgumentType]
    found = size(group(a_0=[[0], [1]], b_1=[[0], [1]]), tensors, importance)
    assert found == pytest.approx(expected)


def test_tied_layers_are_averaged_whatever_their_scale() -> None:
    a, b = torch.diag(torch.tensor([1.0, 3.0])), torch.diag(torch.tensor([300.0, 100.0]))
    found = size(group(a_0=[[0], [1]], b_1=[[0], [1]]), {"a": a, "b": b}, Magnitude())
    assert found == pytest.approx([1.0, 1.0])


def test_a_unit_of_several_slices_counts_them_all_and_vectors_do_not_count() -> None:
    tensors = {"w": torch.tensor([[3.0], [1.0], [4.0], [1.0]]), "b": torch.tensor([9.0, 0, 0, 0])}
    found = size(group(w_0=[[0, 2], [1, 3]], b_0=[[0, 2], [1, 3]]), tensors, Magnitude())
    sizes = np.array([5.0, 2**0.5])
    assert found == pytest.approx(sizes / sizes.mean())


def test_depthwise_weights_count(score: Score) -> None:
    model = depthwise()
    with torch.no_grad():
        for path, values in {"0": [1.0, 1.0], "2": [1.0, 3.0], "3": [1.0, 1.0]}.items():
            weight = model.get_parameter(f"{path}.weight")
            weight.zero_()
            if path == "3":
                weight[0, :, 0, 0] = torch.tensor(values)
            else:
                weight[:, 0, 0, 0] = torch.tensor(values)
    found = score(model, torch.randn(1, 3, 6, 6), Magnitude(reduce="sum"))
    assert found["0"] == pytest.approx([1 + 0.5 + 1, 1 + 1.5 + 1])


def test_a_batch_norm_scale_is_gamma_else_magnitude(
    score: Score,
) -> None:
    model = depthwise()
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor([-3.0, 1.0]))
    x = torch.randn(1, 3, 6, 6)
    found = score(model, x, BatchNormScale())
    assert found["0"] == pytest.approx([1.5, 0.5])
    assert found["3"] == pytest.approx(score(model, x, Magnitude())["3"])
    with pytest.raises(UnsupportedError, match="3: no batch norm"):
        score(model, x, BatchNormScale(normalize="none"))


def test_without_any_batch_norm_its_scale_is_refused(score: Score) -> None:
    with pytest.raises(UnsupportedError, match="no batch norm"):
        score(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(1, 3), BatchNormScale())


def test_lamp_divides_by_all_that_is_at_least_as_large(score: Score) -> None:
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[2.0], [1.0], [3.0], [1.0]]))
    found = score(model, torch.randn(1, 1), Lamp(reduce="first"))
    assert found["0"] == pytest.approx([4 / 13, 1 / 15, 1, 1 / 15])


def test_random_scores_depend_on_the_seed_alone(score: Score) -> None:
    model, x = depthwise(), torch.randn(1, 3, 6, 6)
    first, again, other = (score(model, x, Random(seed=seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["3"], other["3"])


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(CompressError, match="not positive"):
        Magnitude(p=0)
    with pytest.raises(CompressError, match="p='2' is not positive"):
        Magnitude(p="2")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match="seed=-1 is no whole number"):
        Random(seed=-1)
    with pytest.raises(CompressError, match="did you mean 'mean'"):
        Magnitude(reduce="meen")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match="not a way to normalize"):
        Lamp(normalize="meter")  # pyright: ignore[reportArgumentType]
