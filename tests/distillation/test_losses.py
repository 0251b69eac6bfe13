import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from torchcompress.core.errors import CompressError
from torchcompress.distillation.losses import ce, dist, kd, mean_teacher

Loss = Callable[[Tensor, Tensor], Tensor]


def _kd_standardized(student: Tensor, teacher: Tensor) -> Tensor:
    return kd(student, teacher, temperature=2.0, standardize=True)


def _dist_soft(student: Tensor, teacher: Tensor) -> Tensor:
    return dist(student, teacher, beta=2.0, gamma=0.5, tau=3.0)


_MOST_GRADIENT = 200.0

LOSSES: list[Loss] = [kd, _kd_standardized, dist, _dist_soft]


def _pair(rows: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, rows, classes)
    student, teacher = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return student, teacher


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


def test_kd_is_its_closed_form() -> None:
    student, teacher = _pair()
    p, q = _softmax(student.numpy() / 3), _softmax(teacher.numpy() / 3)
    expected = 9 * (q * np.log(q / p)).sum(1).mean()
    assert kd(student, teacher, temperature=3.0).item() == pytest.approx(expected)


def test_standardized_kd_does_not_see_shift_and_scale() -> None:
    student, teacher = _pair()
    plain = _kd_standardized(student, teacher)
    moved = _kd_standardized(student * 7 + 3, teacher * 0.2 - 1)
    torch.testing.assert_close(plain, moved, rtol=1e-5, atol=0)
    z = student.numpy()
    z = (z - z.mean(1, keepdims=True)) / z.std(1, ddof=1, keepdims=True)
    w = teacher.numpy()
    w = (w - w.mean(1, keepdims=True)) / w.std(1, ddof=1, keepdims=True)
    p, q = _softmax(z / 2), _softmax(w / 2)
    assert plain.item() == pytest.approx(4 * (q * np.log(q / p)).sum(1).mean(), rel=1e-5)


def test_dist_is_one_minus_pearson_over_rows_and_over_columns() -> None:
    student, teacher = _pair()
    p, q = _softmax(student.numpy() / 3), _softmax(teacher.numpy() / 3)
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    assert _dist_soft(student, teacher).item() == pytest.approx(9 * (2 * inter + 0.5 * intra))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_equal_finite_differences(loss: Loss) -> None:
    student, teacher = _pair()
    student.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)
    (gradient,) = torch.autograd.grad(loss(student, teacher), student)
    assert bool((gradient.abs().sum(1) > 1e-6).all())


def test_the_gradient_of_ce_equals_finite_differences() -> None:
    student, _ = _pair()
    student.requires_grad_(True)
    labels = torch.tensor([0, 1, 2, 3, 1])
    assert torch.autograd.gradcheck(lambda s: ce(s, labels, label_smoothing=0.1), student)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_left_to_learn_where_the_student_is_the_teacher(loss: Loss) -> None:
    teacher = _pair()[1].float()
    student = teacher.clone().requires_grad_(True)
    value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert abs(value.item()) < 1e-5
    assert gradient.abs().max().item() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_logits_stay_finite(loss: Loss, dtype: torch.dtype) -> None:
    sharp = torch.tensor([[300.0, 0, 0], [300, 0, 0], [0, 300, 0]], dtype=dtype)
    flat = torch.zeros(3, 3, dtype=dtype)
    other = torch.tensor([[0, 300.0, 0], [300, 0, 0], [0, 0, 300]], dtype=dtype)
    for student in (sharp, flat, other):
        for teacher in (sharp, flat, other):
            leaf = student.clone().requires_grad_(True)
            value = loss(leaf, teacher)
            value.backward()
            assert value.dtype == torch.float32
            assert torch.isfinite(value)
            assert leaf.grad is not None
            assert leaf.grad.abs().max().item() < _MOST_GRADIENT
            if student is teacher:
                assert abs(value.item()) < 1e-5


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e-7, 1e-4, 1e-2])
def test_a_student_that_hardly_varies_gets_a_bounded_gradient(loss: Loss, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=generator)
    leaf = (scale * student).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(leaf, teacher), leaf)
    assert 1e-3 < gradient.abs().max().item() < _MOST_GRADIENT


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-2, 2e-2, 1e-1])
def test_nothing_is_lost_on_a_teacher_that_hardly_varies(scale: float) -> None:
    teacher = scale * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert abs(dist(teacher, teacher).item()) < 1e-5


def test_extreme_logits_of_ce_stay_finite() -> None:
    student = torch.tensor([[300.0, 0, 0]], dtype=torch.bfloat16)
    assert ce(student, torch.tensor([2])).item() == 300.0


@pytest.mark.parametrize("loss", LOSSES)
def test_more_samples_of_the_same_do_not_change_the_scale(loss: Loss) -> None:
    student, teacher = _pair()
    torch.testing.assert_close(
        loss(student.repeat(3, 1), teacher.repeat(3, 1)), loss(student, teacher)
    )


def test_a_class_that_the_teacher_never_varies_is_left_out_of_dist() -> None:
    teacher = torch.tensor([[1.0, 2.0, 0.5]] * 4)
    student = torch.randn(4, 3)
    torch.testing.assert_close(dist(student, teacher, gamma=5.0), dist(student, teacher, gamma=0.0))


def test_several_teachers_are_their_mean_probability() -> None:
    one, two = _pair()
    expected = (one.softmax(1) + two.softmax(1)) / 2
    torch.testing.assert_close(mean_teacher([one, two]).softmax(1), expected)
    assert mean_teacher([one]) is one
    sharp = mean_teacher([torch.tensor([[300.0, 0, 0]]), torch.tensor([[0, 300.0, 0]])])
    torch.testing.assert_close(sharp.softmax(1), torch.tensor([[0.5, 0.5, 0]]))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda s, t: kd(s, t, temperature=0), r"kd\.temperature: 0 is not above 0"),
        (
            lambda s, t: kd(s, t, temperature=cast(Any, "4")),
            r"kd\.temperature: '4' is not a number",
        ),
        (lambda s, t: kd(s, t, temperature=math.inf), r"kd\.temperature: inf is not a number"),
        (lambda s, t: dist(s, t, tau=-1.0), r"dist\.tau: -1 is not above 0"),
        (lambda s, t: dist(s, t, beta=-1.0), r"dist\.beta: -1 is below 0"),
        (lambda s, t: dist(s, t, gamma=cast(Any, None)), r"dist\.gamma: None is not a number"),
        (lambda s, t: ce(s, t, label_smoothing=1), r"ce\.label_smoothing: 1 is not below 1"),
        (lambda s, t: kd(s, t[:, :1]), r"kd: the student's output is \(5, 4\), .* \(5, 1\)"),
        (lambda s, t: dist(s, t[:1]), r"dist: the student's output is \(5, 4\), .* \(1, 4\)"),
        (lambda s, t: kd(s[0], t[0]), r"not both \(N, C\)"),
        (lambda s, t: kd(s[:, :1], t[:, :1], standardize=True), r"kd\.standardize: one class"),
        (lambda s, t: ce(s, torch.tensor([0, 1])), "2 labels for 5 samples"),
        (lambda s, t: ce(s, cast(Any, [0, 1, 2, 3, 0])), "labels are list"),
    ],
)
def test_what_cannot_be_compared_is_refused(loss: Loss, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        loss(*_pair())
