"""What a model remembers of its making: its architecture and its plans."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torchcompress.core.modules import innermost
from torchcompress.core.plan import Plan

_HISTORY = "_torchcompress_history"
_ARCHITECTURE = "_torchcompress_architecture"


@dataclass(frozen=True)
class Architecture:
    """How to build a fresh model.

    Args:
        name: A torchvision model name, or `package.module:factory`.
        args: Keyword arguments of the constructor, JSON values.
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)


def history(model: nn.Module) -> tuple[Plan, ...]:
    """Returns the plans that made this model, oldest first.

    They survive `copy.deepcopy`, further stages, `tc.save` and `tc.load`.

    Args:
        model: Any model.
    """
    return tuple(innermost(model).__dict__.get(_HISTORY, ()))


def latest(model: nn.Module, kind: str) -> Plan | None:
    """Returns the last plan of a kind that a model remembers, or None."""
    made = [plan for plan in history(model) if plan.kind == kind]
    return made[-1] if made else None


def record(model: nn.Module, plan: Plan) -> None:
    """Appends a plan to the history of a model that it has just changed."""
    model.__dict__[_HISTORY] = (*history(model), plan)


def architecture(model: nn.Module) -> Architecture | None:
    """Returns how a fresh model of this architecture is built, or None where nothing is known."""
    return model.__dict__.get(_ARCHITECTURE)


def remember_architecture(model: nn.Module, arch: Architecture | None) -> None:
    """Lets a model remember how a fresh one is built."""
    model.__dict__[_ARCHITECTURE] = arch


def inherit(source: nn.Module, target: nn.Module) -> None:
    """Gives `target` what `source` remembers."""
    target.__dict__[_HISTORY] = history(source)
    remember_architecture(target, architecture(source))
