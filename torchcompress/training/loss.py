"""What a training minimises."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import call
from torchcompress.data.labels import check_labels
from torchcompress.training.precision import at_least_float32

Loss = Callable[[nn.Module, Any, Any], Tensor | Mapping[str, Tensor]]
"""`loss(model, inputs, labels)`: a scalar, or named scalars whose sum is minimised."""


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Returns the mean cross entropy, in float32 at least.

    Args:
        logits: (N, C).
        labels: Class indices (N,), or rows of class weights (N, C): one-hot rows give the same.
        label_smoothing: The share of the target spread over all classes (Szegedy et al., 2016).

    Raises:
        CompressError: A label out of range (named), or labels of the wrong number, shape or dtype.
    """
    check_labels(labels, logits.shape[1], "labels", samples=len(logits))
    logits = at_least_float32(logits)
    labels = labels.to(logits.dtype) if labels.ndim == 2 else labels.long()
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def classification_loss(label_smoothing: float) -> Loss:
    """Returns the default loss: the cross entropy of the model's logits.

    Args:
        label_smoothing: As in `cross_entropy`.
    """

    def loss(model: nn.Module, inputs: Any, labels: Any) -> Tensor:
        if not isinstance(labels, Tensor):
            raise CompressError(
                "the default loss needs labels",
                where="train",
                hint="let the loader yield (inputs, labels), or pass loss=",
            )
        return cross_entropy(call(model, inputs), labels, label_smoothing=label_smoothing)

    return loss
