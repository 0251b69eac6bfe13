"""Which weights go, against plain loops in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import CompressError
from torchcompress.pruning import MagnitudePruner, OneShot, SparsityPlan
from torchcompress.pruning.weights import Block, prunable_weights
from torchcompress.pruning.weights.allocation import densities


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 16, 3),
        nn.Conv2d(16, 32, 3, groups=2),
        nn.ConvTranspose2d(32, 8, 2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.Linear(64, 8),
    )


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    names = [f"{i}.weight" for i in (0, 1, 2, 4, 5)]
    return {name: model.get_parameter(name).detach().double().numpy() for name in names}


def pruned(model: nn.Module, sparsity: float, **options: object) -> SparsityPlan:
    return MagnitudePruner(
        model,
        Target(sparsity=sparsity),
        keep_ends=False,
        **options,  # pyright: ignore[reportArgumentType]
    ).finalize()


def kept_counts(plan: SparsityPlan) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in plan.kept.items()}


def test_global_takes_the_smallest_of_all() -> None:
    together = np.sort(np.concatenate([np.abs(w).ravel() for w in weights(net()).values()]))
    plan = pruned(net(), 0.7)
    limit = together[math.ceil(0.7 * together.size)]
    for name, weight in weights(net()).items():
        assert np.array_equal(plan.kept[name].numpy(), np.abs(weight) >= limit)


def test_layer_takes_the_same_share_of_each() -> None:
    plan = pruned(net(), 0.7, scope="layer")
    for name, weight in weights(net()).items():
        kept = math.floor(0.3 * weight.size + 1e-6)
        limit = np.sort(np.abs(weight).ravel())[weight.size - kept]
        assert np.array_equal(plan.kept[name].numpy(), np.abs(weight) >= limit)
    # What the ends keep, the others have to give.
    spared = MagnitudePruner(net(), Target(sparsity=0.6), scope="layer").finalize()
    sizes = {name: weight.size for name, weight in weights(net()).items()}
    free = sizes["1.weight"] + sizes["2.weight"] + sizes["4.weight"]
    share = 0.6 * sum(sizes.values()) / free
    assert kept_counts(spared) == {
        name: math.floor((1 - share) * sizes[name] + 1e-6)
        for name in ("1.weight", "2.weight", "4.weight")
    }


@pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.95])
def test_erk_gives_each_layer_its_density(sparsity: float) -> None:
    shapes = {name: weight.shape for name, weight in weights(net()).items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    left = math.floor((1 - sparsity) * sum(sizes.values()) + 1e-6)
    dense: set[str] = set()
    while True:  # As in the appendix of the paper: layers above 1 become dense, and again.
        rest = left - sum(sizes[name] for name in dense)
        factor = rest / sum(raw[n] * sizes[n] for n in sizes if n not in dense)
        above = {n for n in sizes if n not in dense and factor * raw[n] > 1}
        if not above:
            break
        dense |= above
    plan = pruned(net(), sparsity, scope="erk")
    for name, size in sizes.items():
        kept = size if name in dense else math.floor(factor * raw[name] * size + 1e-6)
        assert size - plan.zeros[name] == kept
    assert sparsity <= plan.sparsity < sparsity + len(sizes) / sum(sizes.values())


def test_lamp_takes_the_lowest_of_its_scores() -> None:
    scores = []
    for name, weight in weights(net()).items():
        squares = np.sort(weight.astype(np.float32).astype(np.float64).ravel() ** 2)
        scores += [(squares[k] / squares[k:].sum(), name, k) for k in range(len(squares))]
    gone = sorted(scores)[: math.ceil(0.9 * len(scores))]
    plan = pruned(net(), 0.9, scope="lamp")
    assert plan.zeros == {
        name: sum(layer == name for _, layer, _ in gone) for name in weights(net())
    }
    for name, weight in weights(net()).items():
        magnitudes, mask = np.abs(weight), plan.kept[name].numpy()
        assert magnitudes[mask].min() >= magnitudes[~mask].max()


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "1:2", "3:8"])
def test_n_of_m_hold_in_every_group(pattern: str) -> None:
    n, m = (int(number) for number in pattern.split(":"))
    model = net()
    exclude = ["0"] if m == 8 else []
    plan = MagnitudePruner(model, pattern=pattern, keep_ends=False, exclude=exclude).finalize()
    names = [name for name in weights(model) if name not in ("0.weight",) or not exclude]
    original = weights(net())
    for name, weight in weights(model).items():
        if name not in names:
            assert name not in plan.kept
            continue
        inputs, values = (0, 1) if name == "2.weight" else (1, 0)
        rows = np.moveaxis(weight, (values, inputs), (0, -1)).reshape(-1, weight.shape[inputs])
        before = np.moveaxis(original[name], (values, inputs), (0, -1)).reshape(rows.shape)
        for row, old in zip(rows, before, strict=True):
            for first in range(0, len(row), m):
                group, whole = row[first : first + m], np.abs(old[first : first + m])
                assert (group != 0).sum() == n
                assert set(np.flatnonzero(group)) == set(np.argsort(whole)[-n:])
    assert plan.pattern == pattern
    if not exclude:
        assert plan.sparsity == 1 - n / m


def test_the_way_to_n_of_m_goes_by_what_will_go() -> None:
    model = net()
    parameter = model.get_parameter("4.weight")
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    pruner = MagnitudePruner(
        model, pattern="2:4", keep_ends=False, schedule=lambda step: min(step / 5, 1.0)
    ).attach(optimizer)
    least = 0
    for step in range(1, 6):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
        groups = (parameter.detach() == 0).reshape(-1, 4).sum(1)
        assert int(groups.max()) <= 2
        least = int(groups.min())
        assert int(groups.sum()) == math.ceil(step / 5 * parameter.numel() / 2 - 1e-6)
    assert least == 2
    assert pruner.done


def block_means(weight: np.ndarray, outputs: int, inputs: int) -> dict[tuple[int, ...], float]:
    """Returns the mean magnitude of each block of a plain convolution or linear layer."""
    flat = np.abs(weight).reshape(*weight.shape[:2], -1)
    return {
        (o, i, k): float(flat[o : o + outputs, i : i + inputs, k].mean())
        for o in range(0, flat.shape[0], outputs)
        for i in range(0, flat.shape[1], inputs)
        for k in range(flat.shape[2])
    }


@pytest.mark.parametrize("scope", ["global", "layer", "lamp", "erk"])
def test_blocks_go_as_a_whole(scope: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(64, 8))
    original = {n: p.detach().double().numpy() for n, p in model.named_parameters()}
    original = {name: weight.copy() for name, weight in original.items()}
    plan = pruned(model, 0.6, scope=scope, pattern="block:4x2")
    assert 0 <= plan.sparsity - 0.6 <= (1 if scope in ("global", "lamp") else 2) * 8 / 1664
    means, gone = {}, {}
    for name in ("0.weight", "2.weight"):
        kept = plan.kept[name].flatten(2).numpy() if name == "0.weight" else plan.kept[name].numpy()
        kept = kept.reshape(*kept.shape[:2], -1)
        for (o, i, k), mean in block_means(original[name], 4, 2).items():
            block = kept[o : o + 4, i : i + 2, k]
            assert block.all() or not block.any()
            means[name, o, i, k], gone[name, o, i, k] = mean, not block.any()
    if scope == "global":
        count = sum(gone.values())
        assert {key for key in gone if gone[key]} == set(
            sorted(means, key=lambda k: means[k])[:count]
        )
    for name in ("0.weight", "2.weight"):
        of = [key for key in gone if key[0] == name]
        assert max(means[k] for k in of if gone[k]) <= min(means[k] for k in of if not gone[k])


def test_blocks_of_a_model_with_scattered_zeros_count_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    pruned(model, 0.4)
    plan = pruned(model, 0.7, pattern="block:4x4")
    assert 0 <= plan.sparsity - 0.7 <= 16 / 512


def test_each_layer_keeps_its_largest_weight() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model.get_parameter("0.weight").data.mul_(1e-6)
    largest = int(model.get_parameter("0.weight").abs().argmax())
    plan = pruned(model, 0.98)
    assert plan.kept["0.weight"].flatten().nonzero().flatten().tolist() == [largest]
    assert plan.zeros["1.weight"] == math.ceil(0.98 * 128) - 63


def test_equal_weights_do_not_all_go_together() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    assert sum(pruned(model, 0.25).zeros.values()) == 32


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(10, 1000), min_size=1, max_size=6),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 100),
)
def test_densities_add_up_within_their_bounds(sizes: list[int], share: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    raw = generator.random(len(sizes)) + 0.01
    least = generator.random(len(sizes)) * 0.1
    most = 0.2 + 0.8 * generator.random(len(sizes))
    whole = np.array(sizes, float)
    low, high = float(whole @ least), float(whole @ most)
    kept = low + share * (high - low)
    found = densities(whole, raw, least, most, kept)
    assert ((found >= least) & (found <= most)).all()
    assert abs(whole @ found - kept) < 1e-6 * whole.sum()
    inside = (found > least) & (found < most)
    factors = found[inside] / raw[inside]
    assert np.ptp(factors) < 1e-9 if inside.any() else True


def test_the_masks_of_a_transposed_grouped_convolution_by_blocks() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 8, 2, groups=2)
    weight = layer.weight.detach().abs()
    plan = pruned(layer, 0.5, pattern=Block(2, 2))
    (found,) = prunable_weights(layer, keep_ends=False).weights
    assert (found.inputs, found.outputs) == (4, 4)
    kept: Tensor = plan.kept["weight"]
    means = {}
    for i in range(0, 8, 2):  # Inputs are rows; outputs belong to the group of their row.
        for o in range(0, 4, 2):
            for y in range(2):
                for x in range(2):
                    block = kept[i : i + 2, o : o + 2, y, x]
                    assert block.all() or not block.any()
                    mean = float(weight[i : i + 2, o : o + 2, y, x].mean())
                    means[mean] = bool(block.any())
    assert [means[mean] for mean in sorted(means)] == [False] * 16 + [True] * 16


def test_a_schedule_that_only_begins_later_changes_nothing_yet() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = MagnitudePruner(model, Target(sparsity=0.5), schedule=OneShot(5)).attach(optimizer)
    assert sum(pruner.plan.zeros.values()) == 0
    assert not pruner.done
    with pytest.raises(CompressError, match="train"):
        pruner.finalize()
