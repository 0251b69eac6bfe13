from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from training_loop import X, net, sgd, train

from torchcompress import Target, plan_channels
from torchcompress.errors import CompressError
from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.tracer import trace
from torchcompress.pruning import BNSparsity, ChannelPruner, GroupLasso, Growing, OneShot
from torchcompress.pruning.regularizers import Penalty, find_regularizer
from torchcompress.pruning.surgery import Removal


def _trained(model: nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def _free(model: nn.Module) -> list[Group]:
    return [group for group in channel_groups(trace(model, X)) if group.frozen is None]


def _gradients(model: nn.Module, penalty: Penalty, step: int = 0) -> dict[str, Tensor]:
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for parameter, gradient in penalty(step):
            name = names[id(parameter)]
            found[name] = found.get(name, torch.zeros_like(gradient)) + gradient
    return found


def _autograd(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    return {n: g for n, g in zip(names, gradients, strict=True) if g is not None}


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def _nothing() -> Removal:
    return {}


class Residual(nn.Module):
    """Two convolutions whose outputs are added, so that their channels are coupled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.body = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.norm(self.body(x)))


def test_bn_sparsity_is_the_gradient_of_the_l1_norm_of_scales() -> None:
    model = net()
    _trained(model)
    penalty = BNSparsity(0.3).bind(model, _free(model), _nothing)
    scales = [model.get_parameter("1.weight"), model.get_parameter("4.weight")]
    value = 0.3 * torch.stack([scale.abs().sum() for scale in scales]).sum()
    _assert_same(_gradients(model, penalty), _autograd(model, value))


def test_group_lasso_is_the_gradient_of_the_norms_of_all_coupled_slices() -> None:
    model = net()
    _trained(model)
    penalty = GroupLasso(0.3).bind(model, _free(model), _nothing)
    p = dict(model.named_parameters())
    first = [p["0.weight"].flatten(1), p["1.weight"][:, None], p["1.bias"][:, None]]
    first.append(p["3.weight"].transpose(0, 1).flatten(1))
    second = [p["3.weight"].flatten(1), p["4.weight"][:, None], p["4.bias"][:, None]]
    second += [p["3.bias"][:, None], p["8.weight"].T]
    norms = torch.cat([torch.cat(slices, 1).norm(dim=1) for slices in (first, second)])
    _assert_same(_gradients(model, penalty), _autograd(model, 0.3 * norms.sum()))


def test_group_lasso_couples_over_a_residual_and_groups() -> None:
    model = Residual()
    _trained(model)
    groups = _free(model)
    penalty = GroupLasso(2.0).bind(model, groups, _nothing)
    value = torch.zeros(())
    tensors = dict(model.named_parameters())
    for group in groups:
        for unit in range(group.units):
            slices = [
                tensors[name].index_select(dim, torch.from_numpy(indices[unit])).flatten()
                for (name, dim), indices in group.members.items()
                if name in tensors
            ]
            value = value + 2.0 * torch.cat(slices).norm()
    _assert_same(_gradients(model, penalty), _autograd(model, value))


def test_group_lasso_is_zero_at_a_unit_of_zeros() -> None:
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    penalty = GroupLasso().bind(model, _free(model), _nothing)
    assert all((gradient == 0).all() for gradient in _gradients(model, penalty).values())


def test_growing_is_the_gradient_of_half_the_square_of_what_goes() -> None:
    model = net()
    _trained(model)
    plan = plan_channels(model, X, Target(channels=0.5))
    regularizer = Growing(delta=0.1, every=2, ceiling=0.25)
    penalty = regularizer.bind(model, [], lambda: plan.removed)
    assert [regularizer.factor(step) for step in range(6)] == [0.1, 0.1, 0.2, 0.2, 0.25, 0.25]
    for step, factor in ((0, 0.1), (2, 0.2), (9, 0.25)):
        value = torch.zeros(())
        for name, parameter in model.named_parameters():
            left = parameter
            for dim, gone in plan.removed.get(name, {}).items():
                stays = [i for i in range(parameter.shape[dim]) if i not in gone]
                left = left.index_select(dim, torch.tensor(stays))
            value = value + factor / 2 * (parameter.square().sum() - left.square().sum())
        expected = {n: g for n, g in _autograd(model, value).items() if n in plan.removed}
        _assert_same(_gradients(model, penalty, step), expected)


def test_tensors_that_are_not_trained_are_left_alone() -> None:
    model = net()
    model[3].requires_grad_(False)
    going = plan_channels(model, X, Target(channels=0.5)).removed
    for regularizer in (GroupLasso(), BNSparsity(), Growing()):
        penalty = regularizer.bind(model, _free(model), lambda: going)
        assert not {"3.weight", "3.bias", "1.running_mean"} & _gradients(model, penalty).keys()


@pytest.mark.parametrize("name", ["bn", "group_lasso", "growing"])
def test_what_is_penalised_shrinks_in_the_loop(name: str) -> None:
    strong = {"bn": BNSparsity(0.5), "group_lasso": GroupLasso(0.5), "growing": Growing(delta=0.5)}
    model, plain = net(), net()
    pruner = ChannelPruner(
        model, X, Target(channels=0.5), schedule=OneShot(50), regularizer=strong[name]
    )
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in (model, plain)]
    pruner.attach(optimizers[0])
    for one, optimizer in zip((model, plain), optimizers, strict=True):
        train(one, [optimizer], 40)
    going = plan_channels(plain, X, Target(channels=0.5)).removed["1.weight"][0]
    sizes = [m.get_parameter("1.weight")[going].abs().sum() for m in (model, plain)]
    assert sizes[0] < 0.9 * sizes[1]


@pytest.mark.parametrize("fused", [False, True])
def test_the_penalty_is_not_scaled_down_by_a_grad_scaler(fused: bool) -> None:
    moved: list[Tensor] = []
    for scale in (1.0, 1024.0):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        regularizer = GroupLasso(0.1)
        pruner = ChannelPruner(
            model, X, Target(channels=0.5), schedule=OneShot(9), regularizer=regularizer
        )
        pruner.attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(model(X).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        moved.append(model.get_parameter("3.weight").detach())
    torch.testing.assert_close(moved[0], moved[1])


def test_gradients_add_up_with_accumulation() -> None:
    model, twin = net(), net()
    regularizer = GroupLasso(0.1)
    pruner = ChannelPruner(
        model, X, Target(channels=0.5), schedule=OneShot(9), regularizer=regularizer
    )
    penalty = regularizer.bind(twin, _free(twin), _nothing)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, twin)]
    pruner.attach(optimizers[0])
    for one in (model, twin):
        for _ in range(2):
            one(X).square().sum().backward()
    expected = _gradients(twin, penalty)
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        parameter.grad += expected.get(name, torch.zeros(()))
    for optimizer in optimizers:
        optimizer.step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: find_regularizer("group_laso"), "did you mean 'group_lasso'"),
        (lambda: BNSparsity(0), "strength: 0 is not above 0"),
        (lambda: GroupLasso(float("nan")), "is not above 0"),
        (lambda: Growing(every=0), "every: 0 is not above 0"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(CompressError, match=message):
        make()


def test_network_slimming_needs_a_batch_norm_at_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1))
    with pytest.raises(CompressError, match="no batch norm has a scale that may go"):
        ChannelPruner(model, X, Target(channels=0.5), schedule=OneShot(5), regularizer="bn")


def test_a_closure_would_lose_the_penalty_and_is_refused() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = ChannelPruner(
        model, X, Target(channels=0.5), schedule=OneShot(5), regularizer="group_lasso"
    )
    pruner.attach(optimizer)
    with pytest.raises(CompressError, match="closure"):
        optimizer.step(lambda: 0.0)


def test_a_penalty_that_no_attached_optimizer_could_serve_is_refused() -> None:
    model = net()
    pruner = ChannelPruner(model, X, Target(macs=0.5), schedule=OneShot(3), regularizer="bn")
    with pytest.raises(CompressError, match="no optimizer trains what it penalizes"):
        pruner.attach(torch.optim.SGD(model.get_submodule("8").parameters(), lr=0.1))
    pruner.attach(torch.optim.SGD(model.get_submodule("1").parameters(), lr=0.1))


def test_the_penalty_is_on_the_part_of_an_attention_that_goes() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    x = torch.randn(2, 5, 16)
    seen: list[Sequence[Group]] = []

    class Spy:
        def bind(self, model: nn.Module, groups: Sequence[Group], going: object) -> Penalty:
            seen.append(groups)
            return lambda step: []

    for part in ("heads", "head_dims"):
        ChannelPruner(
            layer,
            x,
            Target(params=0.8),
            schedule=OneShot(3),
            regularizer=Spy(),
            attention=part,
            exclude=["linear1"],
            round_to=1,
        )
    widths = [{g.name: (g.units, g.units * g.width) for g in groups} for groups in seen]
    assert widths[0] != widths[1]
    for part, found in zip(("heads", "head_dims"), widths, strict=True):
        plan = plan_channels(
            layer, x, Target(params=0.8), attention=part, exclude=["linear1"], round_to=1
        )
        channels = {name: width for name, (_, width) in found.items()}
        assert channels == {g.name: g.channels for g in plan.groups if not g.frozen}
