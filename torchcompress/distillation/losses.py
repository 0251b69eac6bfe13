"""Losses of distillation as pure functions on logits.

All compute in float32 at least, whatever the dtype of the logits, and return a scalar whose scale
does not depend on the batch size or the number of classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.core.errors import CompressError
from torchcompress.training.config import check_number
from torchcompress.training.loss import cross_entropy
from torchcompress.training.precision import at_least_float32

_LEAST_NORM = 1e-8
_LEAST_SPREAD = 1e-2


def ce(student: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy against the labels.

    Args:
        student: Logits (N, C).
        labels: Class indices (N,), or rows of class weights (N, C).
        label_smoothing: The share of the target spread over all classes.

    Raises:
        CompressError: A label out of range (named), labels of the wrong number, shape or dtype, or
            a label smoothing that is not from 0 to below 1.
    """
    check_number("ce.label_smoothing", label_smoothing, least=0, below=1)
    return cross_entropy(student, labels, label_smoothing=label_smoothing)


def kd(
    student: Tensor, teacher: Tensor, *, temperature: float = 4.0, standardize: bool = False
) -> Tensor:
    """Knowledge distillation (Hinton et al., 2015): T² KL(teacher || student) of softened outputs.

    Args:
        student: Logits (N, C).
        teacher: Logits (N, C).
        temperature: T, which divides the logits.
        standardize: Whether each row of logits is first shifted and scaled to mean 0 and standard
            deviation 1 (Sun et al., 2024), so that the student need not match the teacher's range.
            A deviation below 0.01 counts as 0.01, which bounds the gradient.

    Raises:
        CompressError: A temperature of 0 or below, logits of different shapes, or a single class to
            standardize.
    """
    check_number("kd.temperature", temperature, above=0)
    _check_pair("kd", student, teacher)
    if standardize and student.shape[1] < 2:
        raise CompressError("one class has no standard deviation", where="kd.standardize")
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    if standardize:
        student, teacher = _standardized(student), _standardized(teacher)
    divergence = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def dist(
    student: Tensor, teacher: Tensor, *, beta: float = 1.0, gamma: float = 1.0, tau: float = 1.0
) -> Tensor:
    """DIST (Huang et al., 2022): keeps the relations in the teacher's outputs, not their values.

    One minus Pearson's correlation of the probabilities, over the classes of each sample (weight
    `beta`) and over the samples of each class (weight `gamma`), times tau². Samples and classes
    in which the teacher's probabilities vary by less than a hundredth of their norm carry no
    relation and are left out. Where the student's vary by less, as from a head that begins at
    zero, they are divided by that hundredth instead of their spread, which bounds the gradient.

    Args:
        student: Logits (N, C).
        teacher: Logits (N, C).
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
        tau: Temperature, which divides the logits.

    Raises:
        CompressError: A temperature of 0 or below, a negative weight, or logits of different
            shapes.
    """
    check_number("dist.beta", beta, least=0)
    check_number("dist.gamma", gamma, least=0)
    check_number("dist.tau", tau, above=0)
    _check_pair("dist", student, teacher)
    p = F.softmax(at_least_float32(student) / tau, 1)
    q = F.softmax(at_least_float32(teacher) / tau, 1)
    return tau**2 * (beta * _decorrelation(p, q, 1) + gamma * _decorrelation(p, q, 0))


def mean_teacher(logits: list[Tensor]) -> Tensor:
    """Returns the logits of several teachers' mean probability.

    Args:
        logits: One tensor (N, C) a teacher, at least one. A single one is returned as it is.

    Returns:
        Log probabilities (N, C), which are logits too.
    """
    if len(logits) == 1:
        return logits[0]
    logs = torch.stack([F.log_softmax(at_least_float32(one), 1) for one in logits])
    return logs.logsumexp(0) - math.log(len(logits))


def _check_pair(where: str, student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or student.shape != teacher.shape:
        raise CompressError(
            f"the student's output is {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}, not both (N, C)",
            where=where,
        )


def _standardized(logits: Tensor) -> Tensor:
    spread = (logits.std(1, keepdim=True) + 1e-7).clamp_min(_LEAST_SPREAD)
    return (logits - logits.mean(1, keepdim=True)) / spread


def _decorrelation(p: Tensor, q: Tensor, dim: int) -> Tensor:
    """Returns the mean of 1 - Pearson's correlation along `dim`, where `q` varies."""
    q_least, p_least = _least_spread(q, dim), _least_spread(p, dim)
    p, q = p - p.mean(dim, keepdim=True), q - q.mean(dim, keepdim=True)
    varies = q.norm(dim=dim) > q_least.squeeze(dim)
    p = p / p.norm(dim=dim, keepdim=True).maximum(p_least)
    cosine = (p * F.normalize(q, dim=dim)).sum(dim)
    return ((1 - cosine) * varies).sum() / varies.sum().clamp_min(1)


def _least_spread(values: Tensor, dim: int) -> Tensor:
    """Returns the norm around the mean along `dim` that counts as a relation, as a constant."""
    norm = values.detach().norm(dim=dim, keepdim=True)
    return (_LEAST_SPREAD * norm).clamp_min(_LEAST_NORM)
