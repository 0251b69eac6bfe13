import copy
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import (
    CalibrationError,
    CompressError,
    TargetUnreachable,
    UnsupportedError,
)
from torchcompress.pruning import sparsify_passes
from torchcompress.pruning.sparsify import sparsify
from torchcompress.pruning.sparsify_passes import Budget, Ingredients
from torchcompress.pruning.weights.plan import SparsityPlan

torch.manual_seed(0)
BATCHES = [torch.randn(24, 4, 8, 8) @ torch.randn(8, 8) for _ in range(2)]


def net(*, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, bias=bias),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=bias),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        nn.Conv2d(8, 16, 1, bias=bias),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 8),
    )
    model.train()
    with torch.no_grad():
        for x in BATCHES * 10:
            model(x)
    return model.eval()


def zeros(model: nn.Module) -> float:
    weights = [p for p in model.parameters() if p.dim() > 1]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def error(model: nn.Module, dense: nn.Module) -> float:
    with torch.no_grad():
        pairs = [(model(x), dense(x)) for x in BATCHES]
    wanted = sum(float((z - z.mean(0)).square().sum()) for _, z in pairs)
    return sum(float((y - z).square().sum()) for y, z in pairs) / wanted


def plan_of(model: nn.Module) -> SparsityPlan:
    plan = tc.history(model)[-1]
    assert isinstance(plan, SparsityPlan)
    return plan


@pytest.mark.parametrize("sparsity", [0.3, 0.75, 0.9])
@pytest.mark.parametrize("bias", [True, False])
def test_the_sparsity_is_met_and_recorded(sparsity: float, bias: bool) -> None:
    dense = net(bias=bias)
    before = copy.deepcopy(dense.state_dict())
    sparse = sparsify(dense, tc.Target(sparsity=sparsity), BATCHES)
    assert zeros(sparse) == pytest.approx(sparsity, abs=1e-3)
    assert plan_of(sparse).sparsity == pytest.approx(zeros(sparse))
    assert not tc.history(dense)
    assert all(torch.equal(before[name], t) for name, t in dense.state_dict().items())
    assert sparse.state_dict().keys() == before.keys()


def test_it_is_far_better_than_magnitude() -> None:
    dense, target = net(), tc.Target(sparsity=0.7)
    plain = Ingredients("magnitude", "layer", update=False, step=0, batch_norms=False)
    whole, magnitude, fixed = (
        error(sparsify(dense, target, BATCHES, ingredients=given), dense)
        for given in (Ingredients(), plain, Ingredients(update=False))
    )
    assert whole < 0.3 * magnitude
    assert whole < fixed


def test_no_row_is_fitted_worse_than_it_was() -> None:
    dense = nn.Sequential(nn.Linear(8, 4, bias=False))
    x = torch.randn(40, 8) @ torch.randn(8, 8)
    sparse = sparsify(dense, tc.Target(sparsity=0.5), [x])
    alone = copy.deepcopy(dense)
    plan_of(sparse).apply(alone, inplace=True)
    wanted = dense(x)
    fitted, plain = ((m(x) - wanted).square().sum(0) for m in (sparse, alone))
    assert (fitted <= plain * 1.0001).all()


def test_redundant_inputs_are_removed_without_loss() -> None:
    dense = nn.Sequential(nn.Linear(8, 2))
    x = torch.randn(60, 4)
    batches = [torch.cat([x, x.flip(1) * 2], 1)]
    sparse = sparsify(dense, tc.Target(sparsity=0.5), batches)
    assert zeros(sparse) == 0.5
    assert torch.allclose(sparse(batches[0]), dense(batches[0]), atol=0.05)


@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_zeros_stay_zero_and_count(sparsity: float) -> None:
    dense = net()
    with torch.no_grad():
        for parameter in dense.parameters():
            if parameter.dim() > 1:
                parameter.mul_(torch.rand_like(parameter) < 0.6)
    sparse = sparsify(dense, tc.Target(sparsity=sparsity), BATCHES)
    assert zeros(sparse) == pytest.approx(sparsity, abs=1e-3)
    for name, parameter in dense.named_parameters():
        if parameter.dim() > 1:
            assert not sparse.get_parameter(name)[parameter == 0].any()


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "block:4x4", "block:1x2"])
def test_patterns_hold_at_every_kernel_position(pattern: str) -> None:
    dense = net()
    target = tc.Target(sparsity=0.5) if pattern.startswith("block") else None
    sparse = sparsify(dense, target, BATCHES, pattern=pattern, exclude=["3"])
    assert plan_of(sparse).pattern == pattern
    assert sparse.get_parameter("3.weight").all()
    for name in ("0.weight", "6.weight", "11.weight"):
        weight = sparse.get_parameter(name)
        matrix = weight.flatten(2).movedim(1, 2) if weight.dim() == 4 else weight[:, None]
        if pattern.startswith("block"):
            rows, columns = (int(n) for n in pattern.removeprefix("block:").split("x"))
            tiles = matrix.unflatten(2, (-1, columns)).unflatten(0, (-1, rows))
            count = (tiles != 0).sum((1, 4))
            assert count.eq(0).logical_or(count == rows * columns).all()
        else:
            kept = int(pattern[0])
            assert (matrix.unflatten(2, (-1, 4)) != 0).sum(3).eq(kept).all()


def test_a_plan_travels_and_zeroes_a_fresh_model() -> None:
    sparse = sparsify(net(), tc.Target(sparsity=0.5), BATCHES)
    plan = plan_from_json(plan_to_json(plan_of(sparse)))
    assert plan == plan_of(sparse)
    assert zeros(plan.apply(net())) == zeros(sparse)


def test_in_place_and_a_copy_give_the_same() -> None:
    one, other = net(), net()
    copied = sparsify(one, tc.Target(sparsity=0.6), BATCHES)
    assert sparsify(other, tc.Target(sparsity=0.6), BATCHES, inplace=True) is other
    pairs = zip(copied.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert len(tc.history(other)) == 1


def test_ends_and_excluded_layers_stay_and_others_lose_more() -> None:
    dense = net()
    sparse = sparsify(dense, tc.Target(sparsity=0.05), BATCHES, keep_ends=True, exclude=["6"])
    assert zeros(sparse) == pytest.approx(0.05, abs=1e-3)
    for name in ("0.weight", "6.weight", "11.weight"):
        assert torch.equal(sparse.get_parameter(name), dense.get_parameter(name))
    assert "excluded" in plan_of(sparse).notes["6.weight"]


class Reached(nn.Module):
    """A layer that the run never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_layer_that_calibration_never_reached_is_named_and_left_dense() -> None:
    model = Reached()
    sparse = sparsify(model, tc.Target(sparsity=0.4), [torch.randn(9, 8)])
    assert zeros(sparse.used) == pytest.approx(0.8, abs=0.01)
    assert torch.equal(sparse.unused.weight, model.unused.weight)
    assert "never reached" in plan_of(sparse).notes["unused.weight"]
    with pytest.raises(TargetUnreachable, match=r"only 49.2 % of the weights can become zero"):
        sparsify(model, tc.Target(sparsity=0.6), [torch.randn(9, 8)])


class Stopped(Exception):
    """The process was killed."""


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sparsify(net(), tc.Target(sparsity=0.8), BATCHES)
    solve, calls = sparsify_passes._solve, 0

    def stopping(*args: Any, **kwargs: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise Stopped
        return solve(*args, **kwargs)

    monkeypatch.setattr(sparsify_passes, "_solve", stopping)
    file = tmp_path / "run"
    with pytest.raises(Stopped):
        sparsify(net(), tc.Target(sparsity=0.8), BATCHES, resume=file)
    resumed = sparsify(net(), tc.Target(sparsity=0.8), BATCHES, resume=file)
    stages = len(Budget(8, 10, None).stages(Ingredients().step))
    assert calls == 4 * stages + 1
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(CompressError, match="is of another model"):
        sparsify(net(), tc.Target(sparsity=0.7), BATCHES, resume=file)
    file.write_bytes(b"nothing")
    with pytest.raises(CompressError, match="cannot be read"):
        sparsify(net(), tc.Target(sparsity=0.8), BATCHES, resume=file)


@pytest.mark.parametrize("batches", [BATCHES, [(x, 0) for x in BATCHES], [[x] for x in BATCHES]])
def test_labels_are_ignored_and_runs_repeat(batches: list[Any]) -> None:
    first = sparsify(net(), tc.Target(sparsity=0.5), BATCHES)
    again = sparsify(net(), tc.Target(sparsity=0.5), iter(batches))
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_dead_inputs_and_few_samples_give_finite_weights() -> None:
    dead = [torch.cat([x[:2, :2], torch.zeros(2, 2, 8, 8)], 1) for x in BATCHES]
    sparse = sparsify(net(), tc.Target(sparsity=0.8), dead)
    assert all(p.isfinite().all() for p in sparse.parameters())
    assert sparse(dead[0]).isfinite().all()


def test_attention_loses_weights_of_its_projections() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    sparse = sparsify(model, tc.Target(sparsity=0.5), [torch.randn(6, 5, 8)])
    assert zeros(sparse) == pytest.approx(0.5, abs=0.01)
    assert zeros(sparse.self_attn) > 0.1


@pytest.mark.parametrize(
    ("batches", "kind", "message"),
    [
        ([], CalibrationError, "yielded nothing"),
        ([BATCHES[0], BATCHES[1] * float("nan")], CalibrationError, "batch 1: the input is not"),
        ([torch.zeros(2, 3, 8, 8)], CalibrationError, "batch 0: the model fails on it"),
    ],
)
def test_unusable_calibration_changes_nothing(
    batches: list[Any], kind: type[Exception], message: str
) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(kind, match=message):
        sparsify(model, tc.Target(sparsity=0.5), batches, inplace=True)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(CompressError, match="outside"):
        sparsify(net(), tc.Target(sparsity=1.0), BATCHES)
    with pytest.raises(UnsupportedError, match="target"):
        sparsify(net(), tc.Target(macs=0.5), BATCHES)
    with pytest.raises(UnsupportedError, match="3: 2:4 does not divide"):
        sparsify(net(), None, BATCHES, pattern="2:4")
    with pytest.raises(CompressError, match="exclude"):
        sparsify(net(), tc.Target(sparsity=0.5), BATCHES, exclude=["nothing"])
    with pytest.raises(TargetUnreachable):
        sparsify(net(), tc.Target(sparsity=0.9999), BATCHES)
    for name in ("resume", "ingredients"):
        with pytest.raises(CompressError, match=f"{name}: 3"):
            sparsify(net(), tc.Target(sparsity=0.5), BATCHES, **{name: cast(Any, 3)})
    with pytest.raises(CalibrationError, match="calibration: NoneType does not yield batches"):
        sparsify(net(), tc.Target(sparsity=0.5), cast(Any, None))


class Silent(nn.Module):
    """Turns gradients off in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.net(x)


def test_a_forward_pass_without_gradients_is_named_as_the_fault() -> None:
    with pytest.raises(CalibrationError, match="turns gradients off") as caught:
        sparsify(Silent(), tc.Target(sparsity=0.5), BATCHES)
    assert caught.value.where == "net.0"


def test_inference_mode_changes_nothing() -> None:
    model = net()
    outside = sparsify(model, tc.Target(sparsity=0.5), BATCHES)
    with torch.inference_mode():
        inside = sparsify(model, tc.Target(sparsity=0.5), [batch.clone() for batch in BATCHES])
    pairs = zip(outside.state_dict().values(), inside.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7, 0.98])
def test_passes_go_in_equal_ratios_to_the_budget(sparsity: float) -> None:
    stages = Budget(round(10_000 * sparsity), 10_000, None).stages(0.7)
    left = [1 - gone / 10_000 for gone in stages]
    assert left[-1] == pytest.approx(1 - sparsity)
    ratios = [b / a for a, b in pairwise(left)]
    assert sparsity <= 0.5 or left[0] == 0.5
    assert all(0.7 - 1e-3 <= ratio < 1 for ratio in ratios)
    assert max(ratios, default=1) - min(ratios, default=1) < 2e-3
