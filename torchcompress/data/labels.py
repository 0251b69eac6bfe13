"""Labels: class indices (N,) or one row of class weights for each sample (N, C)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.core.errors import CompressError


def check_labels(labels: Tensor, classes: int, where: str, *, samples: int | None = None) -> None:
    """Refuses labels that do not belong to `classes` classes.

    Args:
        labels: Integers (N,), or floats (N, classes).
        classes: How many classes the model has.
        where: Where the labels come from, for the error.
        samples: N, where it is known.

    Raises:
        CompressError: A label out of range (named), or labels of the wrong number, shape or dtype.
    """
    if not isinstance(labels, Tensor):
        raise CompressError(
            f"labels are {type(labels).__name__}, not a tensor",
            where=where,
            hint="torch.tensor(labels) makes one",
        )
    if samples is not None and labels.ndim > 0 and len(labels) != samples:
        raise CompressError(f"{len(labels)} labels for {samples} samples", where=where)
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise CompressError(
                f"labels for {labels.shape[1]} classes, but the model has {classes}", where=where
            )
        return
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise CompressError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}",
            where=where,
            hint="give integers (N,), or one row of class weights for each sample (N, C)",
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise CompressError(
            f"label {int(wrong[0])}, but the model has {classes} classes",
            where=where,
            hint=f"labels run from 0 to {classes - 1}",
        )


def class_indices(labels: Tensor) -> Tensor:
    """Returns int64 class indices (N,) of labels in either form."""
    return labels.argmax(1) if labels.ndim == 2 else labels.long()


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Returns float32 rows of class weights (N, classes) of labels in either form."""
    return labels.float() if labels.ndim == 2 else F.one_hot(labels.long(), classes).float()
