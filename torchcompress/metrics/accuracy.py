"""Top-1 accuracy, in all and by class."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Forward, batch_inputs, batch_labels, call, to_device
from torchcompress.core.modules import device_of, eval_mode
from torchcompress.core.progress import progress
from torchcompress.data.labels import check_labels, class_indices


@dataclass(frozen=True)
class Accuracy:
    """How often the class with the largest output was the right one.

    Args:
        correct: Samples answered rightly.
        total: Samples seen.
        per_class: The fraction for each class, None for a class without samples.
    """

    correct: int
    total: int
    per_class: tuple[float | None, ...]

    @property
    def fraction(self) -> float:
        """The accuracy, from 0 to 1."""
        return self.correct / self.total


def evaluate(
    model: nn.Module, loader: Iterable[Any], *, forward: Forward | None = None
) -> Accuracy:
    """Measures a classifier's top-1 accuracy in eval mode.

    Args:
        model: Gives logits (N, C); its train modes are restored afterwards.
        loader: Batches `(inputs, labels, ...)`; labels are class indices (N,) or rows (N, C).
        forward: Gives the logits of a whole batch, where `model(inputs)` does not.

    Raises:
        CompressError: An empty loader, a label out of range (named, with the batch), or an output
            that is not logits (N, C) or holds NaN.
    """
    device = device_of(model)
    seen = torch.zeros(0, dtype=torch.int64)
    right = torch.zeros(0, dtype=torch.int64)
    with eval_mode(model), torch.no_grad():
        for index, batch in enumerate(progress(loader, "evaluating", unit="batch")):
            where = f"batch {index}"
            batch = to_device(batch, device)
            outputs = forward(model, batch) if forward else call(model, batch_inputs(batch))
            labels = batch_labels(batch)
            classes = _check_logits(outputs, where)
            check_labels(labels, classes, where)
            labels = class_indices(labels)
            hits = labels[outputs.argmax(1) == labels]
            if index == 0:
                seen, right = seen.new_zeros(classes), right.new_zeros(classes)
            seen += labels.bincount(minlength=classes).cpu()
            right += hits.bincount(minlength=classes).cpu()
    total = int(seen.sum())
    if total == 0:
        raise CompressError("the loader yielded nothing", where="loader")
    per_class = (
        hits / count if count else None
        for hits, count in zip(right.tolist(), seen.tolist(), strict=True)
    )
    return Accuracy(int(right.sum()), total, tuple(per_class))


def _check_logits(outputs: Any, where: str) -> int:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise CompressError(
            f"the output is {shape}, not logits (N, C)",
            where=where,
            hint="pass forward= to pick the logits out",
        )
    if outputs.isnan().any():
        raise CompressError("the output holds NaN", where=where, hint="the model is broken")
    return outputs.shape[1]
