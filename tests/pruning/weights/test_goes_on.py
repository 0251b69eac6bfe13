"""A model with zeros goes on into every other stage, with its zeros."""

from pathlib import Path

import pytest
import torch
from torch import nn
from training_loop import X, batches, net, same_tensors

import torchcompress as tc
from torchcompress import Target
from torchcompress.pruning import MagnitudePruner

CONV = "3.weight"


@pytest.fixture
def sparse() -> nn.Sequential:
    model = net().eval()
    MagnitudePruner(model, Target(sparsity=0.8)).finalize()
    return model


def test_into_channel_pruning(sparse: nn.Sequential) -> None:
    plan = tc.plan_channels(sparse, X, Target(channels=0.5), round_to=1)
    cut = plan.apply(sparse)
    left = sparse.get_parameter(CONV).detach()
    for dim, gone in plan.removed[CONV].items():
        rest = [i for i in range(left.shape[dim]) if i not in gone]
        left = left.index_select(dim, torch.tensor(rest))
    assert torch.equal(cut.get_parameter(CONV), left)
    assert [entry.kind for entry in tc.history(cut)] == ["sparsity", "prune.channels"]
    again = MagnitudePruner(cut, Target(sparsity=0.78)).finalize()
    assert not (again.kept[CONV] & (left == 0)).any()


def test_into_int8(sparse: nn.Sequential) -> None:
    int8 = tc.quantize(sparse, [images for images, _ in batches(4)])
    (name,) = [n for n, t in int8.tensors.items() if t.shape == sparse.get_parameter(CONV).shape]
    tensor = int8.tensors[name]
    assert tensor.dtype == torch.int8
    assert not tensor[sparse.get_parameter(CONV) == 0].any()
    assert [entry.kind for entry in tc.history(int8)] == ["sparsity", "quantization"]


def test_into_the_artifact(sparse: nn.Sequential, tmp_path: Path) -> None:
    dense, path = tmp_path / "dense.tcz", tmp_path / "sparse.tcz"
    tc.save(net(), dense)
    tc.save(sparse, path)
    loaded = tc.load(path, model=net())
    assert same_tensors(loaded, sparse)
    assert tc.history(loaded) == tc.history(sparse)
    assert path.stat().st_size < 0.6 * dense.stat().st_size
    int8 = tc.quantize(sparse, [images for images, _ in batches(4)])
    tc.save(int8, path)
    assert tc.history(tc.load(path)) == tc.history(int8)


def test_the_artifact_holds_no_zero_twice(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(200, 1000), nn.Linear(1000, 10))
    MagnitudePruner(model, pattern="2:4").finalize()
    sizes = []
    for history in (tc.history(model), ()):
        model.__dict__["_torchcompress_history"] = history
        tc.save(model, tmp_path / "model.tcz")
        sizes.append((tmp_path / "model.tcz").stat().st_size)
    assert sizes[0] - sizes[1] < 500 < 200_000 / 8


def test_onto_a_fresh_model(sparse: nn.Sequential) -> None:
    (plan,) = tc.history(sparse)
    fresh = plan.apply(net())
    assert torch.equal(fresh.get_parameter(CONV), sparse.get_parameter(CONV))
