"""What stands between two convolutions: their channels go and the result is right, or they stay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import UnsupportedError
from torchcompress.pruning import PruningPlan, plan_channels

Middle = Callable[[Tensor], Tensor]
Oracle = Callable[[nn.Module, Any, PruningPlan], Any]


class Between(nn.Module):
    def __init__(self, middle: Middle, made: int, read: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, made, 3, padding=1)
        self.second = nn.Conv2d(read, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 4, 1)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.middle(self.first(x))).relu())


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return grads[0] * gate * (1 + x * (1 - gate))


def written_after_a_view(y: Tensor) -> Tensor:
    out = torch.empty_like(y)
    view = out.permute(0, 2, 3, 1)
    out.copy_(y)
    return view.permute(0, 3, 1, 2) * 1


def written_row_by_row(y: Tensor) -> Tensor:
    out = torch.empty(y.shape)
    for index, row in enumerate(y):
        out[index] = row
    return out


def swapped_halves(y: Tensor) -> Tensor:
    half = y.shape[1] // 2
    return torch.cat([y[:, half:], y[:, :half]], 1)


def gated_by_slices(y: Tensor) -> Tensor:
    half = y.shape[1] // 2
    return y[:, :half] * y[:, half:].sigmoid()


def out_form(y: Tensor) -> Tensor:
    out = torch.empty_like(y)
    torch.mul(y, 2, out=out)
    return out


def times_mean_distance(y: Tensor) -> Tensor:
    rows = y.flatten(2).mT
    return y * torch.cdist(rows, rows).mean(1).view(-1, 1, 8, 8)


PRUNED: dict[str, tuple[Middle, int, int]] = {
    "autograd_function": (Swish.apply, 16, 16),
    "written_after_a_view": (written_after_a_view, 16, 16),
    "written_row_by_row": (written_row_by_row, 16, 16),
    "swapped_halves": (swapped_halves, 16, 16),
    "gated_by_slices": (gated_by_slices, 16, 8),
    "tensor_split": (lambda y: torch.mul(*y.tensor_split(2, 1)), 16, 8),
    "glu": (lambda y: F.glu(y, 1), 16, 8),
    "out_form": (out_form, 16, 16),
    "half": (lambda y: y.bfloat16().float(), 16, 16),
    "sorted_positions": (lambda y: y.sort(2).values, 16, 16),
    "condition": (lambda y: y * 2 if bool(y.sum() > 0) else y, 16, 16),
    "channel_shuffle": (lambda y: F.channel_shuffle(y, 4), 16, 16),
    "pixel_shuffle": (lambda y: F.pixel_shuffle(y, 2), 16, 4),
    "pixel_unshuffle": (lambda y: F.pixel_unshuffle(y, 2), 4, 16),
    "unfold_and_fold": (lambda y: F.fold(F.unfold(y, 3, padding=1), (8, 8), 3, padding=1), 16, 16),
    "flip": (lambda y: y.flip(1), 16, 16),
    "einsum": (lambda y: torch.einsum("bchw,bdhw,bdij->bcij", y, y, y), 16, 16),
    "cdist": (times_mean_distance, 16, 16),
}  # fmt: skip

FROZEN: dict[str, tuple[Middle, int, int, str]] = {
    "sort": (lambda y: y.sort(1).values, 16, 16, "is the dimension of sort"),
    "fft": (lambda y: torch.fft.irfft2(torch.fft.rfft2(y)), 16, 16, "as complex numbers"),
    "indexed": (lambda y: y[:, torch.arange(15, -1, -1)], 16, 16, "is read or written by index"),
    "mask": (lambda y: y[:, torch.tensor([True, False] * 8)], 16, 8, "is read or written by index"),
    "argmax": (lambda y: y * y.gather(1, y.argmax(1, keepdim=True)), 16, 16, "result of a search"),
    "roll": (lambda y: y.roll(1, 1), 16, 16, "is a dimension of roll"),
    "tril": (lambda y: y.permute(0, 2, 3, 1).tril().permute(0, 3, 1, 2), 16, 16, "of tril"),
    "numpy": (lambda y: torch.from_numpy(y.numpy() * 2), 16, 16, "is read by nothing"),
}


@pytest.mark.parametrize("name", PRUNED)
def test_channels_go_and_the_result_is_right(name: str, oracle: Oracle) -> None:
    model, x = seeded(*PRUNED[name])
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    assert "first.weight" in plan.removed
    expected = oracle(model, x, plan)
    with torch.no_grad():
        found = plan.apply(model)(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", FROZEN)
def test_channels_stay_and_the_reason_is_told(name: str) -> None:
    middle, made, read, reason = FROZEN[name]
    model, x = seeded(middle, made, read)
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    assert "first.weight" not in plan.removed
    assert reason in plan.frozen["first"]


def seeded(middle: Middle, made: int, read: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Between(middle, made, read).eval(), torch.randn(2, 3, 8, 8)


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.recurrent = kind(16, 12, batch_first=True)
        self.head = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embed(x))[0])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_keeps_its_sizes_and_the_rest_is_pruned(
    kind: Callable[..., nn.Module],
) -> None:
    x = torch.randn(2, 5, 8)
    model = Recurrent(kind)
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    assert set(plan.removed) == {"head.0.weight", "head.0.bias", "head.2.weight"}
    assert "embed" in plan.frozen
    assert plan.apply(model)(x).shape == (2, 5, 4)


def test_a_model_that_is_wholly_recurrent_is_refused_with_the_layer_named() -> None:
    with pytest.raises(UnsupportedError, match="recurrent layer mkldnn_rnn_layer"):
        plan_channels(nn.LSTM(8, 12), torch.randn(5, 2, 8), Target(channels=0.5))
