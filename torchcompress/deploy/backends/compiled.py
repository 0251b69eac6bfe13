"""A model in the form that runs fastest here, and what was measured to find it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import torch
from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.history import inherit


@dataclass(frozen=True)
class BackendRow:
    """What became of one back end.

    Args:
        backend: Its name.
        milliseconds: One call on the example inputs, the lowest decile of many; None where it was
            not measured.
        note: Why it cannot be used; empty where it can.
    """

    backend: str
    milliseconds: float | None = None
    note: str = ""


class BackendTable(tuple[BackendRow, ...]):
    """Rows that print as text."""

    def __str__(self) -> str:
        width = max(len(row.backend) for row in self)
        return "\n".join(f"{row.backend:{width}}  {_told(row)}".rstrip() for row in self)


def _told(row: BackendRow) -> str:
    return row.note if row.milliseconds is None else f"{row.milliseconds:.3f} ms"


class CompiledModel(nn.Module):
    """A model that only runs: called as the one it was made of, in eval mode, without gradients.

    It is a copy: what happens to the model afterwards does not reach it. It can be deep-copied. It
    has no state_dict; what is saved or changed is the model that it was made of.

    Made by `compile`.

    Args:
        backend: The name of the back end.
        run: What computes.
        rows: What was measured.
        source: The model that it was made of.
    """

    def __init__(
        self, backend: str, run: nn.Module, rows: tuple[BackendRow, ...], source: nn.Module
    ) -> None:
        super().__init__()
        self.run = run
        self._choice, self._rows = backend, rows
        inherit(source, self)
        self.eval()

    @property
    def choice(self) -> str:
        """The back end that runs: `native`, `onnxruntime` or `inductor`."""
        return self._choice

    def table(self) -> "BackendTable":
        """Returns what each back end took, or why it cannot be used."""
        return BackendTable(self._rows)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs, in the containers of the model.

        Raises:
            CompressError: Inputs that do not fit.
        """
        with torch.no_grad():
            return self.run(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode.

        Raises:
            UnsupportedError: `mode` is true.
        """
        if mode:
            self._refuse("does not train")
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Is refused: a back end keeps its tensors in a form of its own.

        Raises:
            UnsupportedError: Always.
        """
        self._refuse("has no state_dict")

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> NoReturn:
        """Is refused, as `state_dict` is.

        Raises:
            UnsupportedError: Always.
        """
        self._refuse("takes no state_dict")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(
            f"a compiled model {what}",
            where=type(self).__name__,
            hint="train, save or load the model that it was made of, then compile that again",
        )
