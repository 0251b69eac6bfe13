"""The training loop."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import batch_inputs, batch_labels, call, map_tensors, to_device
from torchcompress.core.modules import device_of, eval_mode, undisturbed
from torchcompress.core.progress import progress_bar
from torchcompress.data.labels import check_labels, one_hot
from torchcompress.metrics.accuracy import evaluate
from torchcompress.training.buffers import KeptBuffers
from torchcompress.training.callback import Callback, Row, Run, companions
from torchcompress.training.checkpoint import Checkpoint, restore
from torchcompress.training.config import TrainerConfig
from torchcompress.training.ema import EMA
from torchcompress.training.loader import (
    TrainLoader,
    batch_size,
    require_batches,
    without_last_single,
)
from torchcompress.training.loss import Loss, classification_loss
from torchcompress.training.mixup import mixup
from torchcompress.training.optimizer import build_optimizer, lr_factor, set_lr


@dataclass(frozen=True)
class TrainingResult:
    """What a training reached.

    Args:
        history: One row for each epoch: `epoch` (from 1), `step`, `lr`, `loss`, `loss.NAME` for
            its named terms, `accuracy` (0 to 1, where there is validation data),
            `target_reached` (1 or 0, where a pruner takes part), `images_per_second`, `seconds`.
    """

    history: tuple[Row, ...]

    @property
    def best_accuracy(self) -> float | None:
        """The highest accuracy of any epoch at whose end the target of every pruner was reached.

        None without validation data, or where no epoch got there.
        """
        counted = (row for row in self.history if row.get("target_reached", 1))
        return max((row["accuracy"] for row in counted if "accuracy" in row), default=None)

    @property
    def last_accuracy(self) -> float | None:
        """The accuracy of the model as it is left, None without validation data."""
        return self.history[-1].get("accuracy")


class Trainer:
    """Trains a model in place.

    The random state outside is untouched and nothing outside decides the result but the loaders:
    the same seed gives the same weights, bit for bit, on the CPU. A last batch of one sample is
    left out where others are larger and the model has a BatchNorm, which cannot train on it.

    Args:
        model: What is trained, on the device where it is.
        train: Batches as in `core.inputs`: `(inputs, labels, ...)`, or inputs alone where `loss`
            needs no labels.
        val: Batches `(inputs, labels)` on which accuracy is measured after each epoch.
        config: How the training runs.
        loss: `loss(model, inputs, labels)` gives a scalar or a dict of named scalars, which are
            summed. The default is cross entropy.
        callbacks: Who takes part. What holds the zeros of a sparse model comes first by itself, the
            average of `config.ema_decay` and the checkpoint last.
        checkpoint: A file that is replaced after each epoch.
        resume: Whether to go on from that file. On the CPU the result is bit-equal to never having
            stopped, where the order of the batches comes from torch's global random state, from
            generators that `train` (a DataLoader) or its sampler keeps, or from `set_epoch`.

    Raises:
        CompressError: An empty loader, a training loader without a length, or arguments that do
            not go together.
    """

    def __init__(
        self,
        model: nn.Module,
        train: TrainLoader,
        val: Iterable[Any] | None = None,
        config: TrainerConfig | None = None,
        *,
        loss: Loss | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
    ) -> None:
        config = config or TrainerConfig()
        require_batches(train, val)
        if resume and checkpoint is None:
            raise CompressError("no file to resume from", where="resume", hint="pass checkpoint=")
        if loss is not None and config.label_smoothing:
            raise CompressError(
                "label smoothing belongs to the default loss",
                where="config.label_smoothing",
                hint="give label_smoothing to your own loss",
            )
        self.model = model
        self.train = train
        self.val = val
        self.config = config
        self.loss = loss or classification_loss(config.label_smoothing)
        self.callbacks = tuple(callbacks)
        self.checkpoint = Path(checkpoint) if checkpoint is not None else None
        self.resume = resume
        self._classes: int | None = None

    def fit(self) -> TrainingResult:
        """Trains, and leaves the model trained, in the train or eval mode in which it was.

        Raises:
            CompressError: The loss is not finite (names epoch and step), no scalar or without a
                gradient, labels do not fit the model or the batch, or the checkpoint cannot be
                written.
            ArtifactError: The checkpoint to resume from is missing, damaged, or of another
                training.
        """
        device = device_of(self.model)
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            eval_mode(self.model),
        ):
            torch.manual_seed(self.config.seed)
            run = self._start()
            steps = len(self.train)
            with progress_bar("training", total=self.config.epochs * steps, unit="step") as bar:
                bar.update(run.epoch * steps)
                while run.epoch < self.config.epochs:
                    self._epoch(run, bar)
                    run.epoch += 1
            run.notify("on_fit_end")
        return TrainingResult(tuple(run.history))

    def _start(self) -> Run:
        if self.config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        callbacks = [*companions(self.model), *self.callbacks]
        if self.config.ema_decay is not None:
            callbacks.append(EMA(self.config.ema_decay))
        if self.checkpoint is not None:
            callbacks.append(Checkpoint(self.checkpoint))
        optimizer = build_optimizer(self.model, self.config)
        run = Run(self.model, optimizer, self.config, callbacks, self.train)
        run.notify("on_fit_start")
        if self.resume and self.checkpoint is not None:
            restore(self.checkpoint, run)
        return run

    def _epoch(self, run: Run, bar: Any) -> None:
        set_epoch = getattr(self.train, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(run.epoch)
        self.model.train()
        run.notify("on_epoch_start")
        buffers = KeptBuffers(self.model)
        start, images = time.perf_counter(), 0
        sums: dict[str, float | Tensor] = {}
        first = run.epoch * len(self.train)
        for index, batch in enumerate(without_last_single(self.train, self.model)):
            run.step = first + index
            terms = self._step(run, batch, buffers)
            count = batch_size(batch)
            images += count
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term * count
            rate = images / (time.perf_counter() - start)
            bar.set_postfix_str(
                f"epoch {run.epoch + 1}/{self.config.epochs}, loss {terms['loss'].item():.4f}, "
                f"lr {_lr(run):.2g}, {rate:.0f} images/s",
                refresh=False,
            )
            bar.update()
        bar.update(first + len(self.train) - bar.n)
        if images == 0:
            raise CompressError("the loader yielded nothing", where="train")
        seconds = time.perf_counter() - start
        row: Row = {"epoch": run.epoch + 1, "step": run.step, "lr": _lr(run)}
        row |= {name: float(value) / images for name, value in sums.items()}
        if self.val is not None:
            row["accuracy"] = self._evaluate(run, self.val)
        reached = [callback.done for callback in run.callbacks if callback.done is not None]
        if reached:
            row["target_reached"] = float(all(reached))
        run.history.append(row | {"images_per_second": images / seconds, "seconds": seconds})
        run.notify("on_epoch_end")

    def _step(self, run: Run, batch: Any, buffers: KeptBuffers) -> dict[str, Tensor]:
        """Takes one optimizer step; returns the detached loss and its named terms."""
        steps = len(self.train)
        warmup = self.config.warmup_epochs * steps
        set_lr(run.optimizer, lr_factor(run.step, warmup, self.config.epochs * steps))
        inputs, labels = self._prepare(batch)
        buffers.keep()
        with self._autocast():
            terms = self.loss(self.model, inputs, labels)
        named = _named(terms)
        loss = torch.stack([term.float() for term in named.values()]).sum()
        if not loss.requires_grad:
            raise CompressError(
                "no trained parameter has a part in the loss",
                where="loss",
                hint="compute it from the model's output, without detach or no_grad",
            )
        if not math.isfinite(loss.item()):
            buffers.restore()
            values = ", ".join(f"{name} {term.item():g}" for name, term in named.items())
            raise CompressError(
                f"the loss is not finite ({values})",
                where=f"epoch {run.epoch + 1}, step {run.step}",
                hint="lower lr, warm up longer or set clip_norm; this step was not taken",
            )
        run.optimizer.zero_grad()
        loss.backward()
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        run.notify("on_before_step")
        run.optimizer.step()
        run.notify("on_step_end")
        parts = {} if isinstance(terms, Tensor) else {f"loss.{n}": t for n, t in named.items()}
        return {name: value.detach() for name, value in {"loss": loss, **parts}.items()}

    def _prepare(self, batch: Any) -> tuple[Any, Any]:
        batch = to_device(batch, device_of(self.model))
        inputs = batch_inputs(batch)
        labels = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
        if self.config.mixup_alpha:
            if not isinstance(labels, Tensor):
                raise CompressError("mixup needs labels", where="train")
            classes = self._count_classes(inputs)
            check_labels(labels, classes, "labels", samples=batch_size(batch))
            inputs, labels = mixup(inputs, one_hot(labels, classes), self.config.mixup_alpha)
        if self.config.channels_last:
            inputs = map_tensors(_channels_last, inputs)
        return inputs, labels

    def _count_classes(self, inputs: Any) -> int:
        if self._classes is None:
            with undisturbed(self.model):
                self._classes = int(call(self.model, inputs).shape[1])
        return self._classes

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.amp is None:
            return nullcontext()
        return torch.autocast(device_of(self.model).type, torch.bfloat16)

    def _evaluate(self, run: Run, val: Iterable[Any]) -> float:
        run.notify("on_eval_start")
        try:
            return evaluate(self.model, val, forward=_logits).fraction
        finally:
            run.notify("on_eval_end")


def _named(terms: Any) -> dict[str, Tensor]:
    """Returns the terms of a loss by name, and refuses what is no scalar."""
    named = dict(terms) if isinstance(terms, Mapping) else {"loss": terms}
    if not named:
        raise CompressError("the loss has no terms", where="loss")
    for name, term in named.items():
        if not isinstance(term, Tensor) or term.ndim:
            kind = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise CompressError(
                f"{name} is {kind}, not a scalar tensor", where="loss", hint="take the mean"
            )
    return named


def _logits(model: nn.Module, batch: Any) -> Any:
    """Returns the output for a validation batch whose labels belong to its samples."""
    labels, outputs = batch_labels(batch), call(model, batch_inputs(batch))
    if isinstance(outputs, Tensor) and outputs.ndim == 2:
        check_labels(labels, outputs.shape[1], "val", samples=len(outputs))
    return outputs


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def _lr(run: Run) -> float:
    return run.optimizer.param_groups[0]["lr"]
