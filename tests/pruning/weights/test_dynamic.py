import math

import numpy as np
import pytest
import torch
from torch import nn
from training_loop import net, sgd, train

from torchcompress import Target
from torchcompress.errors import CompressError
from torchcompress.pruning import Cubic, MagnitudePruner, OneShot, RigL

CONV = "3.weight"


def test_rigl_moves_zeros_to_the_largest_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    growth = RigL(every=2, end=100, share=0.4)
    pruner = MagnitudePruner(model, Target(sparsity=0.7), growth=growth, keep_ends=False)
    pruner.attach(optimizer)
    generator = torch.Generator().manual_seed(1)
    moved = 0
    for step in range(1, 9):
        before = pruner.kept["weight"].flatten().numpy()
        gradient = torch.randn(10, 10, generator=generator)
        model.weight.grad = gradient
        old, momentum = model.weight.detach().clone(), optimizer.state[model.weight]
        held = momentum.get("momentum_buffer", torch.zeros(10, 10)).clone()
        optimizer.step()
        after = pruner.kept["weight"].flatten().numpy()
        assert after.sum() == 30
        if step % 2:
            assert np.array_equal(after, before)
            continue
        stepped = old - 0.01 * (gradient + 0.9 * held)
        magnitudes = (stepped.abs().flatten() * torch.from_numpy(before)).numpy()
        count = int(0.2 * (1 + math.cos(math.pi * step / 100)) * 30)
        dropped = [i for i in np.argsort(magnitudes) if before[i]][:count]
        stays = {i for i in range(100) if before[i]} - set(dropped)
        wanted = sorted(set(range(100)) - stays, key=lambda i: -float(gradient.flatten()[i].abs()))
        assert set(np.flatnonzero(after)) == stays | set(wanted[:count])
        grown = after & ~before
        assert (model.weight.detach().flatten().numpy()[grown] == 0).all()
        buffer = optimizer.state[model.weight]["momentum_buffer"].flatten().numpy()
        assert (buffer[grown] == 0).all()
        assert (buffer[~grown] != 0).all()
        moved += int(grown.sum())
    assert moved > 10


def test_a_resumed_regrowth_is_bit_equal_and_ends() -> None:
    growth = RigL(every=3, end=10)
    models = []
    for stop in (None, 4):
        model = net()
        optimizer = sgd(model)
        pruner = MagnitudePruner(model, Target(sparsity=0.6), growth=growth).attach(optimizer)
        if stop:
            train(model, [optimizer], stop)
            states = model.state_dict(), optimizer.state_dict(), pruner.state_dict()
            model = net()
            optimizer = sgd(model)
            pruner = MagnitudePruner(model, Target(sparsity=0.6), growth=growth)
            model.load_state_dict(states[0])
            optimizer.load_state_dict(states[1])
            pruner.load_state_dict(states[2])
            pruner.attach(optimizer)
        train(model, [optimizer], 10 - (stop or 0), first=stop or 0)
        masks = pruner.kept[CONV]
        train(model, [optimizer], 4, first=10)
        assert torch.equal(pruner.kept[CONV], masks)
        models.append(model.get_parameter(CONV).detach())
    assert torch.equal(*models)


def test_a_sparse_model_regrows_under_another_pruner() -> None:
    model = net()
    first = MagnitudePruner(model, Target(sparsity=0.6)).finalize()
    optimizer = sgd(model)
    pruner = MagnitudePruner(
        model, Target(sparsity=0.6), growth=RigL(every=1, end=50), schedule=OneShot(2)
    ).attach(optimizer)
    train(model, [optimizer], 5)
    second = pruner.finalize()
    assert second.zeros == first.zeros
    assert not torch.equal(second.kept[CONV], first.kept[CONV])


@pytest.mark.parametrize("fused", [False, True])
def test_movement_takes_what_moves_towards_zero(fused: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 8, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    pruner = MagnitudePruner(
        model,
        Target(sparsity=0.5),
        importance="movement",
        schedule=OneShot(4),
        keep_ends=False,
    ).attach(optimizer)
    scores = np.zeros((8, 8))
    generator = torch.Generator().manual_seed(3)
    for step in range(5):
        direction = torch.randn(8, 8, generator=generator)
        skipped = step == 2
        if not skipped:
            scores -= (model.weight.detach() * direction).numpy()
        optimizer.zero_grad()
        scaler.scale((model.weight * direction).sum() * (float("inf") if skipped else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
    gone = scores <= np.sort(scores.ravel())[31]
    assert np.array_equal((model.weight == 0).numpy(), gone)
    state = pruner.state_dict()["scores"]["weight"]
    np.testing.assert_allclose(state.numpy(), scores, atol=1e-6)


def test_movement_resumes_bit_equal() -> None:
    models = []
    for stop in (None, 3):
        model = net()
        optimizer = sgd(model)
        options = {"importance": "movement", "schedule": Cubic(begin=2, end=6, every=2)}
        pruner = MagnitudePruner(model, Target(sparsity=0.6), **options).attach(optimizer)
        if stop:
            train(model, [optimizer], stop)
            states = model.state_dict(), optimizer.state_dict(), pruner.state_dict()
            model = net()
            optimizer = sgd(model)
            model.load_state_dict(states[0])
            optimizer.load_state_dict(states[1])
            pruner = MagnitudePruner(model, Target(sparsity=0.6), **options)
            pruner.load_state_dict(states[2])
            pruner.attach(optimizer)
        train(model, [optimizer], 8 - (stop or 0), first=stop or 0)
        models.append(model.get_parameter(CONV).detach())
    assert torch.equal(*models)
    assert (models[0] == 0).any()


def test_a_closure_is_refused_where_gradients_count() -> None:
    model = net()
    optimizer = sgd(model)
    MagnitudePruner(model, Target(sparsity=0.5), importance="movement", schedule=OneShot(2)).attach(
        optimizer
    )
    with pytest.raises(CompressError, match="a closure"):
        optimizer.step(lambda: 0.0)


def test_what_could_have_no_effect_is_refused() -> None:
    target = Target(sparsity=0.5)
    for arguments in ({"every": 0, "end": 5}, {"every": 5, "end": 5}, {"every": 1.5, "end": 9}):
        with pytest.raises(CompressError, match="is not a whole number"):
            RigL(**arguments)
    with pytest.raises(CompressError, match=r"outside \(0, 1\)"):
        RigL(every=1, end=5, share=1.0)
    with pytest.raises(CompressError, match="no step to show in"):
        MagnitudePruner(net(), target, importance="movement")
    with pytest.raises(CompressError, match="about magnitudes"):
        MagnitudePruner(net(), target, importance="movement", scope="lamp", schedule=OneShot(1))
    growth = RigL(every=2, end=10)
    with pytest.raises(CompressError, match="ends before anything is zero"):
        MagnitudePruner(net(), target, growth=growth, schedule=OneShot(10))
    with pytest.raises(CompressError, match="break the pattern 2:4"):
        MagnitudePruner(net(), pattern="2:4", growth=growth)
