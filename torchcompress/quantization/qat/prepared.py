"""A model whose forward pass is fake-quantized."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.binding import bind_inputs
from torchcompress.quantization.check_model import FAKE_QUANTIZERS
from torchcompress.quantization.program import QParams
from torchcompress.quantization.qat.activations import LearnedRanges, MovingRanges
from torchcompress.quantization.qat.config import QATConfig
from torchcompress.quantization.qat.form import Form
from torchcompress.quantization.qat.forward import Forward
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.sources import Source
from torchcompress.quantization.table import Row

_SMALLEST_STEP = 1e-3


@dataclass(frozen=True)
class Around:
    """What a model becomes whose modules are prepared, not itself.

    Args:
        left: The layers that stay float around them.
        split: Why a module that holds them is not prepared as a whole, by path.
    """

    left: tuple[Row, ...]
    split: dict[str, str]


class FakeQuantizers(nn.Module):
    """What quantization adds to a model: ranges, learned steps, and the programs that use them.

    Args:
        draft: What the model will become in int8; its tensors are not kept.
        evaluated: What runs in eval mode.
        trained: What runs in train mode.
        classes: The class of each value of the draft that is stored as uint8.
        config: How they behave.
        prefix: What the names in them begin with: the path of the model in a larger one.
        macs: Multiply-accumulates of each operation of the draft for one sample, by output.
        around: What the model around them is to become.
    """

    def __init__(
        self,
        draft: Draft,
        evaluated: Form,
        trained: Form,
        classes: dict[str, int],
        config: QATConfig,
        prefix: str,
        macs: dict[str, int],
        around: Around,
    ) -> None:
        super().__init__()
        self.draft = draft
        self.evaluated = evaluated
        self.trained = trained
        self.classes = classes
        self.prefix = prefix
        self.macs = macs
        self.around = around
        self.norms_frozen = False
        grids = _by_class(draft, classes)
        self.ranges = (
            LearnedRanges(grids) if config.learned else MovingRanges(grids, config.averaging)
        )
        self.factors = nn.ParameterDict()
        if config.learned:
            for key, source in _rounded_layers(evaluated).items():
                self.factors[_attribute(key)] = nn.Parameter(
                    torch.ones(source.channels, dtype=torch.float32)
                )

    @property
    def path(self) -> str:
        """The path of the module that this belongs to; empty for a whole model."""
        return self.prefix.removesuffix(".")

    @property
    def steps(self) -> dict[str, Tensor]:
        """The learned factors of the steps of weights, by layer; none where none are learned."""
        if not self.factors:
            return {}
        return {
            key: self.factors[_attribute(key)].abs().clamp(min=_SMALLEST_STEP)
            for key in _rounded_layers(self.evaluated)
        }

    def run(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Computes the model's outputs.

        Args:
            model: The model that this belongs to.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        form = self.trained if model.training else self.evaluated
        inputs = bind_inputs(form.program, args, kwargs)
        grids = self.ranges.begin()
        frozen = self.norms_frozen
        forward = Forward(model, self.prefix, form, self.ranges, grids, self.steps, frozen)
        outputs = forward(inputs)
        self.ranges.end()
        return outputs

    def get_extra_state(self) -> dict[str, bool]:
        """Returns what is frozen."""
        return {"norms_frozen": self.norms_frozen, "observing": self.ranges.observing}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """Takes back what `get_extra_state` gave."""
        self.norms_frozen, self.ranges.observing = state["norms_frozen"], state["observing"]


class Prepared(nn.Module):
    """A model that `prepare_qat` made: its class is also a subclass of the one that it was."""

    _was: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs, fake-quantized."""
        return quantizers_of(self).run(self, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # A class that was made on the fly cannot be found by its name.
        return _revived, (self._was,), self.__getstate__()


def quantizers_of(model: nn.Module) -> FakeQuantizers:
    """Returns what quantization added to a prepared model."""
    found = model.get_submodule(FAKE_QUANTIZERS)
    assert isinstance(found, FakeQuantizers)
    return found


def quantizers_in(model: nn.Module) -> list[FakeQuantizers]:
    """Returns what quantization added to a model and its parts.

    Raises:
        UnsupportedError: The model is not prepared.
    """
    found = [module for module in model.modules() if isinstance(module, FakeQuantizers)]
    if not found:
        raise UnsupportedError(
            "is not prepared for quantization-aware training",
            where=type(model).__name__,
            hint="call tc.prepare_qat(model, x) first",
        )
    return found


@cache
def prepared_class(was: type[nn.Module]) -> type[Prepared]:
    """Returns the class that a model of another class gets."""
    return type(f"QAT{was.__name__}", (Prepared, was), {"_was": was})


def _revived(was: type[nn.Module]) -> nn.Module:
    return prepared_class(was).__new__(prepared_class(was))


def _rounded_layers(form: Form) -> dict[str, Source]:
    """Returns the layers with int8 weights."""
    keys = [op.layer for op in form.program.ops if op.int8 and op.layer is not None]
    sources = {key: form.sources[key] for key in keys}
    return {key: source for key, source in sources.items() if isinstance(source, Source)}


def _by_class(draft: Draft, classes: dict[str, int]) -> Sequence[QParams]:
    grids = {index: draft.grids[value] for value, index in classes.items()}
    return [grids[index] for index in range(len(grids))]


def _attribute(key: str) -> str:
    return key.replace(".", "/")
