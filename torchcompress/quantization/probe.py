"""Does a program compute what a module of a running model computes, call by call?"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.inputs import map_tensors, tensors_in
from torchcompress.quantization.calibrate import (
    ProgramModule,
    check_finite,
    finite_values,
    is_close,
    value_names,
)
from torchcompress.quantization.fuse import fuse
from torchcompress.quantization.host import keep_settings
from torchcompress.quantization.program import Op, Program
from torchcompress.quantization.sources import AnySource

_OWN = {"_original", "_module", "_sources", "_whole", "_fused", "fault", "batch", "calls"}


class Probe(nn.Module):
    """A module of a model, whose program is run beside it on every call.

    Args:
        original: The module.
        program: What it was traced to.
        sources: Of the program's layers.
        tensors: Of the program's layers.
        whole: The module is the model itself.

    Attributes:
        fault: Why the program cannot stand in for the module; empty while it can.
        batch: The calibration batch that runs, for messages; None for inputs made up from one.
        calls: How often the module was called.
    """

    def __init__(
        self,
        original: nn.Module,
        program: Program,
        sources: Mapping[str, AnySource],
        tensors: Mapping[str, Tensor],
        *,
        whole: bool,
    ) -> None:
        super().__init__()
        # In a tuple, so that it is no child of this module.
        self._original = (original,)
        self._module, self._sources, self._whole = ProgramModule(program, tensors), sources, whole
        self._fused: Program | None = None
        self.fault = ""
        self.batch: int | None = 0
        self.calls = 0
        keep_settings(original, self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the module returns."""
        given = map_tensors(Tensor.clone, [args, kwargs])
        want = self._original[0](*args, **kwargs)
        self.calls += 1
        if not self.fault:
            self.fault = self._compare([args, kwargs], given, want)
        return want

    def _compare(self, after: list[Any], given: list[Any], want: Any) -> str:
        pairs = zip(tensors_in(after), tensors_in(given), strict=True)
        if not self._whole and not all(torch.equal(a, b) for (_, a), (_, b) in pairs):
            return "it writes into its inputs"
        shapes: dict[str, tuple[int, ...]] = {}
        program = self._module.program
        names, finite = value_names(program), finite_values(program)

        def observe(op: Op | None, value: str, made: Any) -> None:
            if isinstance(made, Tensor):
                shapes[value] = tuple(made.shape)
                if self.batch is not None:
                    check_finite(made, names[value], self.batch, infinite=value not in finite)

        self._module.observe = observe
        try:
            got = self._module(*given[0], **given[1])
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            return f"its program fails: {error}"
        if not (_agree(got, want) if self._whole else _same(got, want)):
            return "the traced program does not compute what the model computes"
        fused, _ = fuse(program, self._sources, shapes)
        if fused != (self._fused or fused):
            return "its calls differ in the shapes that meet"
        self._fused = fused
        return ""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN or name == "training":
            super().__setattr__(name, value)
            return
        self.fault = f"the code around it sets its attribute {name!r}"
        setattr(self._original[0], name, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            value = getattr(self._original[0], name)
        self.fault = f"the code around it reads its attribute {name!r}"
        return value


def _agree(got: Any, want: Any) -> bool:
    """Whether two results hold the same tensors at the same places."""
    mine, others = dict(tensors_in(got)), dict(tensors_in(want))
    return list(mine) == list(others) and all(is_close(mine[n], others[n]) for n in mine)


def _same(got: Any, want: Any) -> bool:
    """Whether two results are alike in containers and plain values, too."""
    if type(got) is not type(want):
        return False
    if isinstance(want, Tensor):
        return is_close(got, want)
    if isinstance(want, dict):
        return list(got) == list(want) and all(_same(got[key], want[key]) for key in want)
    if isinstance(want, list | tuple):
        return len(got) == len(want) and all(map(_same, got, want))
    return got == want
