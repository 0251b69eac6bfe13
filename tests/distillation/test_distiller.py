import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.distillation import Distiller, LossTerm, losses

Make = Callable[..., Any]
Batches = list[tuple[Tensor, Tensor]]


def test_terms_are_weighted_and_summed(make_model: Make, batches: Batches) -> None:
    student, teacher = make_model(), make_model(12, seed=1)
    distiller = Distiller(
        student, teacher, [LossTerm("kd", 0.5, {"temperature": 2.0}), ("ce", 2.0), "dist"]
    )
    inputs, labels = batches[0]
    out = distiller.eval()(inputs, labels)
    expected, reference = student(inputs), teacher.eval()(inputs)
    torch.testing.assert_close(out.logits, expected)
    torch.testing.assert_close(
        out.terms,
        {
            "kd": 0.5 * losses.kd(expected, reference, temperature=2.0),
            "ce": 2.0 * losses.ce(expected, labels),
            "dist": losses.dist(expected, reference),
        },
    )
    torch.testing.assert_close(out.loss, sum(out.terms.values()))


def test_the_teacher_is_no_part_of_the_module(make_model: Make, batches: Batches) -> None:
    student, teacher = make_model(), make_model(12)
    distiller = Distiller(student, teacher)
    before = copy.deepcopy(teacher.state_dict())
    assert set(distiller.state_dict()) == {f"student.{name}" for name in student.state_dict()}
    assert {id(p) for p in distiller.parameters()} == {id(p) for p in student.parameters()}
    distiller.train()
    for inputs, _ in batches:
        distiller(inputs).loss.backward()
    after = teacher.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())
    assert teacher.training


def test_several_teachers_count_by_their_mean_probability(
    make_model: Make, batches: Batches
) -> None:
    student, one, two = make_model(), make_model(6, seed=1), make_model(10, seed=2)
    inputs = batches[0][0]
    out = Distiller(student, [one, two], ["kd"]).eval()(inputs)
    mean = (one.eval()(inputs).softmax(1) + two.eval()(inputs).softmax(1)) / 2
    torch.testing.assert_close(out.loss, losses.kd(student(inputs), mean.log()))


def test_a_plain_loop_learns_from_the_teacher_alone(make_model: Make, batches: Batches) -> None:
    teacher, student = make_model(), make_model(6, seed=3)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.05)
    for _ in range(30):
        for inputs, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(teacher(inputs), labels).backward()
            optimizer.step()

    distiller = Distiller(student, teacher, ["dist", "kd"])
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.05)
    for _ in range(30):
        for inputs, _ in batches:
            optimizer.zero_grad()
            distiller(inputs).loss.backward()
            optimizer.step()

    inputs, labels = batches[0]
    student.eval()
    teacher.eval()
    assert (teacher(inputs).argmax(1) == labels).float().mean() > 0.9
    assert (student(inputs).argmax(1) == teacher(inputs).argmax(1)).float().mean() > 0.9


def test_autocast_reaches_both_and_the_loss_stays_wide(make_model: Make, batches: Batches) -> None:
    distiller = Distiller(make_model(), make_model(12), ["dist", "ce"])
    with torch.autocast("cpu", torch.bfloat16):
        out = distiller(*batches[0])
    assert out.logits.dtype == torch.bfloat16
    assert out.loss.dtype == torch.float32
    out.loss.backward()


def test_classes_that_differ_name_both_models(make_model: Make, batches: Batches) -> None:
    class Small(nn.Sequential):
        pass

    student = Small(*make_model(classes=10))
    with pytest.raises(CompressError, match=r"\(Small\) has 10 .* \(Sequential\) has 1000"):
        Distiller(student, make_model(classes=1000))(batches[0][0])


def test_a_teacher_that_would_change_with_the_student_is_refused(make_model: Make) -> None:
    student = make_model()
    shares = nn.Sequential(*student[:-1], nn.Linear(8, 4))
    for teacher in (student, shares, [make_model(), student]):
        with pytest.raises(CompressError, match="shares parameters with the student"):
            Distiller(student, teacher)
    with pytest.raises(CompressError, match="no teacher"):
        Distiller(student, [])
    for nothing in (None, 3, [None]):
        with pytest.raises(CompressError, match=r"teacher: .* is not a module"):
            Distiller(student, cast(Any, nothing))


def test_missing_or_wrong_labels_and_outputs_are_named(make_model: Make, batches: Batches) -> None:
    inputs, labels = batches[0]
    distiller = Distiller(make_model(), make_model(), ["ce"])
    with pytest.raises(CompressError, match=r"losses\.ce: this loss needs labels"):
        distiller(inputs)
    with pytest.raises(CompressError, match="label 4"):
        distiller(inputs, labels + 4)
    with pytest.raises(CompressError, match="labels are list, not a tensor"):
        distiller(inputs, labels.tolist())
    with pytest.raises(CompressError, match="4 labels for 16 samples"):
        distiller(inputs, labels[:4])
    with pytest.raises(CompressError, match="teacher: the output of ReLU"):
        Distiller(make_model(), nn.ReLU())(inputs)


def test_models_that_begin_in_place_see_and_leave_what_was_given(
    make_model: Make, batches: Batches
) -> None:
    def clipped(seed: int, inplace: bool) -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace), make_model(seed=seed)).eval()

    teacher = make_model(seed=3).eval()
    given = batches[0][0]
    inputs = given.clone()
    out = Distiller(clipped(1, True), [clipped(2, True), teacher], ["kd"])(inputs)
    expected = Distiller(clipped(1, False), [clipped(2, False), teacher], ["kd"])(given)
    assert torch.equal(inputs, given)
    assert torch.equal(out.loss, expected.loss)
