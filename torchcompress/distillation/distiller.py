"""A student that learns from a teacher."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Inputs, call, map_tensors
from torchcompress.core.modules import eval_mode
from torchcompress.distillation.losses import mean_teacher
from torchcompress.distillation.terms import LOSSES, LossTerm, loss_terms


class DistillationOutput(NamedTuple):
    """What a distiller gives for a batch.

    Args:
        loss: The sum of the terms, a scalar.
        terms: The weighted terms by name, scalars.
        logits: The student's logits (N, C).
    """

    loss: Tensor
    terms: dict[str, Tensor]
    logits: Tensor


class Distiller(nn.Module):
    """Computes the loss of a student against its teacher.

    The teacher is not a child: not in the state_dict, not among the parameters, not moved by
    `to`. It runs in eval mode without gradients, and its modes and buffers stay as they were.

        distiller = Distiller(student, teacher, ["dist", ("ce", 0.5)])
        loss, terms, logits = distiller(inputs, labels)

    Args:
        student: Gives logits (N, C).
        teacher: Gives logits of the same classes; of several, the mean probability counts.
        losses: The terms: `LossTerm`s, names, or pairs of name and weight.

    Raises:
        CompressError: The teacher is the student or shares parameters with it, no teacher is
            given, a teacher is no module, or a loss cannot be.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Sequence[nn.Module],
        losses: Sequence[LossTerm | str | tuple[str, float]] = ("dist",),
    ) -> None:
        super().__init__()
        self.student = student
        self.teachers = tuple(teacher) if isinstance(teacher, Sequence) else (teacher,)
        self.terms = loss_terms(losses)
        if not self.teachers:
            raise CompressError("no teacher is given", where="teacher")
        trained = {id(p) for p in student.parameters()}
        for one in self.teachers:
            if not isinstance(one, nn.Module):
                raise CompressError(f"{type(one).__name__} is not a module", where="teacher")
            if one is student or any(id(p) in trained for p in one.parameters()):
                raise CompressError(
                    "the teacher shares parameters with the student, and would change with it",
                    where="teacher",
                    hint="pass copy.deepcopy(model) as the teacher",
                )

    def forward(self, inputs: Inputs, labels: Tensor | None = None) -> DistillationOutput:
        """Runs the student and its teachers on a batch, which no model can change for another.

        Args:
            inputs: A tensor, a tuple of positional inputs or a dict of keyword inputs.
            labels: Class indices (N,) or rows of class weights (N, C), where a loss needs them.

        Raises:
            CompressError: Outputs that are not logits, classes that differ (names both models), or
                labels that are missing or out of range.
        """
        logits = _logits(self.student, _call_on_copy(self.student, inputs), "student")
        teacher = mean_teacher([self._teach(one, inputs, logits) for one in self.teachers])
        terms: dict[str, Tensor] = {}
        for term in self.terms:
            loss = LOSSES[term.name]
            reference = teacher if loss.reference == "teacher" else labels
            if reference is None:
                raise CompressError(
                    "this loss needs labels",
                    where=f"losses.{term.name}",
                    hint="call the distiller with (inputs, labels)",
                )
            terms[term.name] = term.weight * loss.function(logits, reference, **term.options)
        return DistillationOutput(torch.stack([*terms.values()]).sum(), terms, logits)

    def _teach(self, teacher: nn.Module, inputs: Inputs, student: Tensor) -> Tensor:
        with torch.inference_mode(), eval_mode(teacher):
            logits = _logits(teacher, _call_on_copy(teacher, inputs), "teacher")
        if logits.shape[1] != student.shape[1]:
            raise CompressError(
                f"the student ({type(self.student).__name__}) has {student.shape[1]} classes, the "
                f"teacher ({type(teacher).__name__}) has {logits.shape[1]}",
                where="teacher",
                hint="give both heads the same classes",
            )
        # Autograd cannot save an inference tensor for the backward pass.
        return logits.clone()


def _call_on_copy(model: nn.Module, inputs: Inputs) -> Any:
    """Calls a model that may begin in place on copies, so that the others see what was given."""
    return call(model, map_tensors(Tensor.clone, inputs))


def _logits(model: nn.Module, output: Any, role: str) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise CompressError(
            f"the output of {type(model).__name__} is {shape}, not logits (N, C)", where=role
        )
    return output
