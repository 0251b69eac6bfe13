import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.core.modules import named_tensors
from torchcompress.errors import CalibrationError, CompressError, UnsupportedError
from torchcompress.pruning.importance import Fisher, Importance, Scores, Taylor

Score = Callable[..., Scores]


class Residual(nn.Module):
    """A stream of 4 channels that a shared layer, a gate and a grouped layer read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 1)
        self.gate = nn.Linear(4, 4)
        self.wide = nn.Conv2d(4, 8, 1)
        self.grouped = nn.Conv2d(8, 6, 3, padding=1, groups=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.shared(x).tanh()
        x = x + self.shared(x).tanh()
        x = x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None]
        x = self.grouped(self.wide(x).relu()).relu()
        return self.head(x.mean((2, 3)))


def residual() -> Residual:
    torch.manual_seed(0)
    model = Residual().double().eval()
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    nn.init.uniform_(model.norm.bias, 0.2, 0.8)
    return model


def batches(count: int) -> list[Any]:
    torch.manual_seed(1)
    return [
        (torch.randn(6, 3, 5, 5, dtype=torch.float64), torch.randint(0, 5, (6,)))
        for _ in range(count)
    ]


READERS = {"stem": ("shared", "gate", "wide"), "wide": ("grouped",), "grouped": ("head",)}


def slope(model: nn.Module, batch: Any, channels: list[int], readers: tuple[str, ...]) -> float:
    """Returns the derivative of the loss for a gate on channels wherever they are read."""
    losses = []
    for gate in (1 - 1e-5, 1 + 1e-5):

        def scale(_: nn.Module, args: tuple[Tensor, ...], gate: float = gate) -> Tensor:
            factor = torch.ones(args[0].shape[1], dtype=torch.float64)
            factor[channels] = gate
            shape = [1, -1, *[1] * (args[0].dim() - 2)]
            return args[0] * factor.reshape(shape)

        hooks = [model.get_submodule(r).register_forward_pre_hook(scale) for r in readers]
        with torch.no_grad():
            losses.append(float(F.cross_entropy(model(batch[0]), batch[1])))
        for hook in hooks:
            hook.remove()
    return (losses[1] - losses[0]) / 2e-5


def test_taylor_is_the_slope_of_the_loss_when_a_channel_fades(score: Score) -> None:
    model, data = residual(), batches(2)
    found = score(model, data[0][0], Taylor(), data)
    for group, channels in {
        "stem": [[0], [1], [2], [3]],
        "wide": [[0, 4], [1, 5], [2, 6], [3, 7]],
        "grouped": [[0, 3], [1, 4], [2, 5]],
    }.items():
        slopes = [[slope(model, b, c, READERS[group]) for b in data] for c in channels]
        expected = [sum(abs(s) for s in unit) / len(data) for unit in slopes]
        assert found[group] == pytest.approx(expected, rel=1e-4)


def test_fisher_is_half_the_mean_square_of_the_slope(score: Score) -> None:
    model, data = residual(), batches(3)
    found = score(model, data[0][0], Fisher(), data)
    slopes = [[slope(model, b, [c], READERS["stem"]) for b in data] for c in range(4)]
    expected = [sum(s**2 for s in unit) / 2 / len(data) for unit in slopes]
    assert found["stem"] == pytest.approx(expected, rel=1e-4)


def test_options_say_how_the_readers_are_combined(score: Score) -> None:
    model, data = residual(), batches(1)
    parts = [[slope(model, data[0], [c], (r,)) for c in range(4)] for r in READERS["stem"]]
    largest = [max(abs(part[c]) for part in parts) for c in range(4)]
    found = score(model, data[0][0], Taylor(reduce="max"), data)["stem"]
    assert found == pytest.approx(largest, rel=1e-4)
    found = score(model, data[0][0], Taylor(normalize="max"), data)["wide"]
    assert found.max() == pytest.approx(1)


def test_channels_that_no_weight_reads_are_scored_by_those_that_make_them(score: Score) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(4, 6), nn.Linear(4, 6)
            self.value = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return ((self.query(x) @ self.key(x).mT).tanh() @ self.value(x)).mean(1)

    torch.manual_seed(0)
    model = Attention().double()
    x, labels = torch.randn(3, 7, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    found = score(model, x, Taylor(reduce="max", normalize="none"), [(x, labels)])["query"]
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    for unit in range(6):
        parts = [
            abs(float((p.detach()[unit] * p.grad[unit]).sum()))
            for layer in (model.query, model.key)
            for p in layer.parameters()
            if p.grad is not None
        ]
        assert found[unit] == pytest.approx(max(parts))


@pytest.mark.parametrize("importance", [Taylor(), Fisher()])
def test_the_model_is_left_as_it_was(score: Score, importance: Importance) -> None:
    model = residual().train()
    model.gate.eval()
    model.shared.weight.requires_grad_(False)
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    before = copy.deepcopy(model)
    state = torch.get_rng_state()
    score(model, batches(1)[0][0], importance, batches(2))
    torch.set_rng_state(state)
    assert torch.is_grad_enabled()
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    for name, tensor in named_tensors(model).items():
        other = named_tensors(before)[name]
        assert torch.equal(tensor, other)
        assert tensor.requires_grad == other.requires_grad
        assert (tensor.grad is None) == (name != "stem.weight")


def test_a_frozen_model_and_a_caller_without_gradients_score_alike(score: Score) -> None:
    model, data = residual(), batches(1)
    expected = score(model, data[0][0], Taylor(), data)
    with torch.no_grad():
        found = score(model.requires_grad_(False), data[0][0], Taylor(), data)
    assert all((found[name] == expected[name]).all() for name in expected)
    assert not any(p.requires_grad for p in model.parameters())


def test_a_loss_gets_the_labels_or_a_batch_that_is_all_inputs(score: Score) -> None:
    model, data = residual(), batches(1)
    x, labels = data[0]
    expected = score(model, x, Taylor(), data)
    own = score(model, x, Taylor(), data, lambda y, labels: F.cross_entropy(y, labels))
    keyed = score(
        model, x, Taylor(), [{"x": x}], lambda y, batch: F.cross_entropy(y, labels + 0 * len(batch))
    )
    called = score(
        model, x, Taylor(), [(labels, x)], lambda y, _: F.cross_entropy(y, labels),
        lambda m, batch: m(batch[1]),
    )  # fmt: skip
    for found in (own, keyed, called):
        assert all(found[name] == pytest.approx(expected[name]) for name in expected)


X = batches(1)[0][0]


@pytest.mark.parametrize(
    ("data", "loss", "error", "message"),
    [
        (None, None, CompressError, "data: the importance needs batches"),
        ([], None, CalibrationError, "data: the loader yielded nothing"),
        ([X], None, CompressError, "a batch has no labels"),
        ([(X, [0])], None, CompressError, "pass loss=function"),
        ([(X,)], None, CompressError, "no labels"),
        ([(X * torch.inf, torch.zeros(6))], None, CalibrationError, "batch 0"),
        ([X], lambda y, _: y.sum() * torch.nan, CalibrationError, "data batch 0: the loss is not"),
        ([X], lambda y, _: y.detach().sum(), UnsupportedError, "no gradient"),
        ([X], lambda y, _: y, CompressError, "one number"),
        ([X], lambda y, _: 1.0, CompressError, "loss: gives 1.0, not a tensor of one number"),
        (
            [(X, torch.full((6,), 99))],
            None,
            CalibrationError,
            "data batch 0: its labels do not fit",
        ),
        ([(X, torch.zeros(5))], None, CalibrationError, "batch 0: its labels do not fit an output"),
        ([(X[:, :1], torch.zeros(6))], None, CalibrationError, "batch 0: the model fails on it"),
    ],
)
def test_bad_data_is_refused(
    score: Score, data: Any, loss: Any, error: type[CompressError], message: str
) -> None:
    with pytest.raises(error, match=message):
        score(residual(), X, Taylor(), data, loss)
