"""Where the channel cases are kept by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One kind of model on which channel pruning goes wrong easily.

    Attributes:
        model: Makes the model.
        inputs: Makes its example input.
    """

    model: Callable[[], nn.Module]
    inputs: Callable[[], Any]

    def build(self) -> tuple[nn.Module, Any]:
        """Returns the model in eval mode with its input, the same at every call."""
        torch.manual_seed(0)
        return self.model().eval(), self.inputs()


CASES: dict[str, Case] = {}


def image() -> Tensor:
    return torch.randn(2, 3, 16, 16)


def tokens() -> Tensor:
    return torch.randn(2, 5, 8)


def case(
    name: str, inputs: Callable[[], Any] = image
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Registers a model without arguments under a name."""

    def register(kind: type[nn.Module]) -> type[nn.Module]:
        CASES[name] = Case(kind, inputs)
        return kind

    return register


def conv(into: int, out: int, kernel: int = 1, **options: Any) -> nn.Conv2d:
    """Returns a convolution that keeps the image size unless it has a stride."""
    return nn.Conv2d(into, out, kernel, padding=kernel // 2, **options)


class Classifier(nn.Module):
    """Features, then a linear layer over their mean; a case says what the features are."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 10)

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))
