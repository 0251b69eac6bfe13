"""Importances that look at the gradient of a loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.core.errors import CalibrationError, CompressError, UnsupportedError
from torchcompress.core.inputs import (
    batch_inputs,
    batch_labels,
    calibration_batches,
    call,
    run_batch,
    to_device,
)
from torchcompress.core.modules import device_of, undisturbed
from torchcompress.graph.groups import Group, Member
from torchcompress.pruning.importance.base import Evidence, Importance, Normalize, Reduce, Scores


@dataclass(frozen=True, kw_only=True)
class Taylor(Importance):
    """How much the loss changes, to first order, when a unit is zeroed where it is read.

    The |sum of gradient times weight| over the slices that read the unit, averaged over batches
    (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning"). It is in units of
    the loss, so that layers compare as they are.
    """

    name: ClassVar[str] = "taylor"
    needs_data: ClassVar[bool] = True

    reduce: Reduce = "sum"
    normalize: Normalize = "none"

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        return _mean_over_batches(self, evidence, lambda change: change)


@dataclass(frozen=True, kw_only=True)
class Fisher(Importance):
    """How much the loss grows, to second order, when a unit is zeroed where it is read.

    Half the mean square of the gradient for a gate on the unit, which is the diagonal of the
    empirical Fisher information (Theis et al. 2018, "Faster Gaze Prediction with Dense Networks
    and Fisher Pruning"; coupled layers share a gate as in Liu et al. 2021, "Group Fisher Pruning
    for Practical Network Compression"). Each batch is one draw: batches of one sample give the
    information itself, larger ones a multiple of it where the mean gradient is small.
    """

    name: ClassVar[str] = "fisher"
    needs_data: ClassVar[bool] = True

    reduce: Reduce = "sum"
    normalize: Normalize = "none"

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        return _mean_over_batches(self, evidence, lambda change: change**2 / 2)


def _mean_over_batches(
    importance: Importance, evidence: Evidence, cost: Callable[[np.ndarray], np.ndarray]
) -> Scores:
    members = _gated_members(evidence)
    total = {group.name: np.zeros(group.units) for group in evidence.groups}
    batches = 0
    for gradients in _gradients(evidence, {name for own in members.values() for name, _ in own}):
        batches += 1
        for group in evidence.groups:
            parts = [
                _gate(evidence.tensors[name], gradients[name], dim, group.members[name, dim])
                for name, dim in members[group.name]
                if name in gradients
            ]
            if parts:
                total[group.name] += cost(importance.combine(parts))
    return {name: score / batches for name, score in total.items()}


def _gated_members(evidence: Evidence) -> dict[str, list[Member]]:
    """Returns for each group the slices of weights that read it.

    Where no weight does, as between the query and the key of attention, those that make it.
    """
    parameters = {name for name, _ in evidence.model.named_parameters()}
    reading: set[Member] = set()
    for event in evidence.seen.contractions:
        if event.weight is not None:
            for dim, vector in enumerate(evidence.seen.tensors[event.weight].dims):
                if vector is None:
                    continue
                if event.produced is None or not np.array_equal(vector, event.produced):
                    reading.add((event.weight, dim))

    def gated(group: Group) -> list[Member]:
        own = [member for member in group.members if member[0] in parameters]
        return [member for member in own if member in reading] or own

    return {group.name: gated(group) for group in evidence.groups}


def _gate(weight: Tensor, gradient: Tensor, dim: int, indices: np.ndarray) -> np.ndarray:
    """Returns the derivative of the loss for a gate on each unit of a weight."""
    product = weight.detach().to(torch.float64) * gradient.to(torch.float64)
    rows = product.movedim(dim, 0).reshape(weight.shape[dim], -1)
    return rows.sum(1).cpu().numpy()[indices].sum(1)


def _gradients(evidence: Evidence, names: set[str]) -> Iterator[dict[str, Tensor]]:
    """Yields for each batch the gradient of the loss for the named parameters that it reaches."""
    if evidence.data is None:
        raise CompressError(
            "the importance needs batches",
            where="data",
            hint="pass data=loader, whose batches are (inputs, labels)",
        )
    model, device = evidence.model, device_of(evidence.model)
    wanted = {name: t for name, t in evidence.tensors.items() if name in names}
    forward = evidence.forward or (lambda m, batch: call(m, batch_inputs(batch)))
    batches = calibration_batches(evidence.data, lambda m, batch: batch, "data")
    for index, batch in batches:
        batch = to_device(batch, device)
        with undisturbed(model), torch.enable_grad(), _differentiable(list(wanted.values())):
            where = f"data batch {index}"
            loss = _loss(evidence, run_batch(forward, model, batch, where), batch, where)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                found = tuple(loss.shape) if isinstance(loss, Tensor) else repr(loss)
                raise CompressError(f"gives {found}, not a tensor of one number", where="loss")
            if not loss.requires_grad:
                raise UnsupportedError(
                    "the loss has no gradient",
                    where=where,
                    hint="the forward pass must not switch gradients off",
                )
            if not torch.isfinite(loss).all():
                raise CalibrationError("the loss is not finite (NaN or infinity)", where=where)
            found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        yield {name: g for name, g in zip(wanted, found, strict=True) if g is not None}


def _loss(evidence: Evidence, output: Any, batch: Any, where: str) -> Tensor:
    if evidence.loss is not None:
        has_labels = isinstance(batch, list | tuple)
        return evidence.loss(output, batch_labels(batch) if has_labels else batch)
    labels = batch_labels(batch)
    if not isinstance(output, Tensor) or not isinstance(labels, Tensor):
        raise CompressError(
            "the default is the cross entropy of an output tensor and a tensor of labels",
            where="loss",
            hint="pass loss=function, called with the output and the labels of a batch",
        )
    try:
        return F.cross_entropy(output, labels)
    except (IndexError, RuntimeError, ValueError) as error:
        raise CalibrationError(
            f"its labels do not fit an output of shape {tuple(output.shape)}: {error}",
            where=where,
            hint="give class numbers or probabilities of the model's classes, or pass loss=",
        ) from error


@contextmanager
def _differentiable(tensors: list[Tensor]) -> Iterator[None]:
    """Lets tensors require a gradient for a block."""
    before = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, required in zip(tensors, before, strict=True):
            tensor.requires_grad_(required)
