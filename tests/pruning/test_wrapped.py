import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from train_together import __file__ as train_together_script
from train_together import train_together
from training_loop import X, net, same_tensors, sgd, train

from torchcompress import Target
from torchcompress.errors import UnsupportedError
from torchcompress.pruning import ChannelPruner, Iterative, OneShot

HALF = Target(macs=0.5)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_wrapped_model_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedError, match="wrap the bare model, and again after each cut"):
        ChannelPruner(DistributedDataParallel(net()), X, HALF)


@pytest.mark.usefixtures("one_process")
def test_a_wrap_older_than_the_last_cut_does_not_run() -> None:
    model, twin = net(), net()
    pruners, optimizers = [], []
    for one in (model, twin):
        pruner = ChannelPruner(one, X, HALF, schedule=Iterative(cuts=2, every=2, begin=1))
        optimizers.append(sgd(one))
        pruners.append(pruner.attach(optimizers[-1]))
    wrapped = DistributedDataParallel(model)
    for step in range(5):
        if step in (1, 3):
            with pytest.raises(UnsupportedError, match="cut after DistributedDataParallel"):
                wrapped(X)
            wrapped = DistributedDataParallel(model)
        train(wrapped, optimizers[:1], 1, first=step)
        train(twin, optimizers[1:], 1, first=step)
    assert pruners[0].done
    assert same_tensors(model, twin)


def test_a_compiled_model_is_compiled_anew_for_its_new_sizes() -> None:
    torch.compiler.reset()
    model, twin = net(), net()
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module)
    optimizers = [sgd(model), sgd(twin)]
    schedule = Iterative(cuts=2, every=2, begin=1)
    pruner = ChannelPruner(compiled, X, HALF, schedule=schedule).attach(optimizers[0])
    ChannelPruner(twin, X, HALF, schedule=schedule).attach(optimizers[1])
    train(compiled, optimizers[:1], 5)
    train(twin, optimizers[1:], 5)
    assert pruner.done
    assert same_tensors(model, twin)


def test_a_data_parallel_model_is_cut_inside() -> None:
    model, twin = net(), net()
    optimizers = [sgd(model), sgd(twin)]
    wrapped = nn.DataParallel(model)
    pruner = ChannelPruner(wrapped, X, HALF, schedule=OneShot(1)).attach(optimizers[0])
    ChannelPruner(twin, X, HALF, schedule=OneShot(1)).attach(optimizers[1])
    train(wrapped, optimizers[:1], 2)
    train(twin, optimizers[1:], 2)
    assert pruner.done
    assert same_tensors(model, twin)


def test_processes_that_train_together_are_cut_alike(tmp_path: Path) -> None:
    store, result = str(tmp_path / "store"), tmp_path / "other.pt"
    search = [str(Path(train_together_script).parent), *sys.path]
    other = subprocess.Popen(
        [sys.executable, train_together_script, store, str(result)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
    )
    model, pruner = train_together(store, 0)
    assert other.wait(120) == 0
    assert pruner.done
    theirs = torch.load(result, weights_only=True)
    assert len(theirs) == len(model.state_dict())
    trained = dict(model.named_parameters())
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in trained.items())
