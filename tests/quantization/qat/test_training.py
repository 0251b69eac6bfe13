"""A prepared model in trainings: the Trainer, averages, zeros, mixed precision, accumulation."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from qat_together import qat_together, train_alone
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import torchcompress as tc
from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.quantization import Int8Model
from torchcompress.quantization.qat.prepared import quantizers_of
from torchcompress.training import TrainerConfig
from torchcompress.training.callback import Callback, Run

CONFIG = tc.QATConfig(placement="all")


@pytest.fixture
def loader(images: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    x = images.repeat(5, 1, 1, 1) + torch.randn(40, 3, 12, 12)
    return DataLoader(TensorDataset(x, torch.arange(40) % 4), batch_size=8)


class Watching(Callback):
    """Notes down what is frozen during each step."""

    def __init__(self) -> None:
        self.frozen: list[tuple[bool, bool]] = []

    def on_before_step(self, run: Run) -> None:
        quantizers = quantizers_of(run.model)
        self.frozen.append((quantizers.norms_frozen, not quantizers.ranges.observing))


def test_the_trainer_freezes_on_schedule(
    small: nn.Module, images: Tensor, loader: DataLoader[tuple[Tensor, ...]]
) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG)
    watching = Watching()
    config = TrainerConfig(epochs=4, lr=0.01, channels_last=False)
    tc.Trainer(prepared, loader, loader, config, callbacks=[watching]).fit()
    assert watching.frozen == [(step >= 6, step >= 8) for step in range(20)]


def test_a_loop_of_ones_own_freezes_on_schedule(small: nn.Module, images: Tensor) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG).train()
    optimizer = torch.optim.SGD(prepared.parameters(), 0.01)
    schedule = tc.FreezeSchedule(prepared, 10, norms=0.5, ranges=0.2).attach(optimizer)
    quantizers, seen = quantizers_of(prepared), []
    for _ in range(10):
        prepared(images).sum().backward()
        seen.append((quantizers.norms_frozen, not quantizers.ranges.observing))
        optimizer.step()
    assert seen == [(step >= 5, step >= 2) for step in range(10)]
    with pytest.raises(CompressError, match="attached already"):
        schedule.attach(optimizer)
    with pytest.raises(UnsupportedError, match="prepare_qat"):
        tc.FreezeSchedule(small, 10)
    with pytest.raises(CompressError, match="not known"):
        tc.FreezeSchedule(prepared).attach(optimizer)
    with pytest.raises(CompressError, match="norms"):
        tc.FreezeSchedule(prepared, 10, norms=1.5)


def test_frozen_norms_keep_their_statistics_and_train_the_rest(
    small: nn.Module, images: Tensor
) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG).train()
    norm = prepared.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    before = {name: value.clone() for name, value in norm.named_buffers()}
    tc.freeze_norms(prepared)
    prepared(images).square().sum().backward()
    assert all(torch.equal(before[name], value) for name, value in norm.named_buffers())
    assert norm.weight.grad is not None
    assert norm.weight.grad.abs().sum() > 0
    tc.freeze_norms(prepared, frozen=False)
    prepared(images)
    assert not torch.equal(before["running_mean"], norm.running_mean)


def test_frozen_ranges_stay(small: nn.Module, images: Tensor) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG).train()
    ranges = quantizers_of(prepared).ranges
    tc.freeze_ranges(prepared)
    before = ranges.grids()
    for _ in range(2):
        prepared(9 * images)
    assert ranges.grids() == before
    tc.freeze_ranges(prepared, frozen=False)
    for _ in range(2):
        prepared(9 * images)
    assert ranges.grids() != before


class StopAt(Callback):
    """Stands for a power cut."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_start(self, run: Run) -> None:
        if run.epoch == self.epoch:
            raise InterruptedError


@pytest.mark.parametrize("learned", [False, True])
def test_resuming_equals_never_having_stopped(
    small: nn.Module,
    images: Tensor,
    loader: DataLoader[tuple[Tensor, ...]],
    tmp_path: Path,
    learned: bool,
) -> None:
    """With an average, mixed precision and the freezing; the average converts."""
    qat = tc.QATConfig(placement="all", learned=learned)

    def trainer(epoch: int, resume: bool = False) -> tc.Trainer:
        model = tc.prepare_qat(small, images, qat)
        config = TrainerConfig(epochs=4, lr=0.01, ema_decay=0.9, amp="bf16", optimizer="adamw")
        stop = [StopAt(epoch)]
        path = tmp_path / ("b" if resume or epoch < 4 else "a")
        return tc.Trainer(
            model, loader, None, config, callbacks=stop, checkpoint=path, resume=resume
        )

    whole, resumed = trainer(9), trainer(9, resume=True)
    whole.fit()
    with pytest.raises(InterruptedError):
        trainer(2).fit()
    resumed.fit()
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    int8 = tc.convert(resumed.model)
    assert isinstance(int8, Int8Model)
    with torch.no_grad():
        want = resumed.model.eval()(images)
    assert (int8.reference()(images) - want).abs().max() < 0.1 * want.std()


@pytest.mark.parametrize("learned", [False, True])
def test_zeros_stay_through_ten_steps_and_into_int8(
    small: nn.Module, images: Tensor, loader: DataLoader[tuple[Tensor, ...]], learned: bool
) -> None:
    tc.MagnitudePruner(small, tc.Target(sparsity=0.8), keep_ends=False).finalize()
    masks = {name: p != 0 for name, p in small.named_parameters() if p.dim() > 1}
    qat = tc.QATConfig(placement="all", learned=learned)
    prepared = tc.prepare_qat(small, images, qat)
    config = TrainerConfig(epochs=2, lr=0.05, channels_last=False)
    tc.Trainer(prepared, loader, None, config).fit()
    assert tc.history(prepared) == tc.history(small)
    int8 = tc.convert(prepared)
    assert isinstance(int8, Int8Model)
    for name, kept in masks.items():
        weight = prepared.get_parameter(name)
        assert not torch.equal(weight, small.get_parameter(name))
        assert not int8.tensors[name][~kept].any()
    assert sum(int((~kept).sum()) for kept in masks.values()) > 0.79 * sum(
        kept.numel() for kept in masks.values()
    )
    assert [plan.kind for plan in tc.history(int8)] == ["sparsity", "quantization"]


def test_mixed_precision_rounds_in_float32(small: nn.Module, images: Tensor) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG).train()
    seen: set[torch.dtype] = set()
    ranges = quantizers_of(prepared).ranges
    quantize = ranges.quantize

    def watched(index: int, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = quantize(index, x, *args, **kwargs)
        assert made.dtype == torch.float32
        seen.add(x.dtype)
        return made

    ranges.quantize = watched
    with torch.autocast("cpu", torch.bfloat16):
        outputs = prepared(images)
        loss = F.cross_entropy(outputs, torch.arange(8) % 4)
    loss.backward()
    assert torch.bfloat16 in seen
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prepared.parameters())
    with torch.no_grad():
        torch.testing.assert_close(outputs.float(), prepared(images), rtol=0.2, atol=0.3)


def test_accumulated_gradients_are_those_of_the_whole_batch(
    small: nn.Module, images: Tensor
) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG).train()
    tc.freeze_norms(prepared)
    tc.freeze_ranges(prepared)
    for module in prepared.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    prepared.eval()
    gradients: list[list[Tensor]] = []
    for parts in (1, 2):
        prepared.zero_grad()
        for piece in images.chunk(parts):
            prepared(piece).square().sum().backward()
        gradients.append([p.grad.clone() for p in prepared.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_a_step_that_is_not_finite_leaves_the_ranges_finite(
    small: nn.Module, images: Tensor
) -> None:
    prepared = tc.prepare_qat(small, images, CONFIG).train()
    before = quantizers_of(prepared).ranges.grids()
    tc.freeze_norms(prepared)
    prepared(images * float("nan"))
    prepared(images)
    for old, new in zip(before, quantizers_of(prepared).ranges.grids(), strict=True):
        assert abs(old.scale - new.scale) < 0.05 * old.scale


def test_two_processes_see_the_ranges_of_one(tmp_path: Path) -> None:
    """Distributed training on halves of each batch: the same ranges, bit for bit, on both."""
    script = Path(__file__).parents[2] / "networks" / "qat_together.py"
    store, other = tmp_path / "store", tmp_path / "other.pt"
    command = [sys.executable, str(script), str(store), str(other)]
    with subprocess.Popen(command) as process:
        mine = qat_together(str(store), 0)
        assert process.wait(60) == 0
    theirs = torch.load(other, weights_only=True)
    torch.testing.assert_close(theirs, mine.state_dict(), rtol=0, atol=0)
    alone = train_alone()
    for name in ("low", "high"):
        key = f"fake_quantizers.ranges.{name}"
        torch.testing.assert_close(mine.state_dict()[key], alone.state_dict()[key])
