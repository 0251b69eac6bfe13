"""What a model and its example input must be like to be followed."""

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.parameter import is_lazy

from torchcompress.core.errors import TraceError, UnsupportedError
from torchcompress.core.inputs import Inputs, tensors_in
from torchcompress.core.modules import named_tensors


def check_model(model: nn.Module) -> None:
    """Checks that every parameter and buffer holds numbers.

    Args:
        model: The model.

    Raises:
        UnsupportedError: A lazy, meta, fake or sparse tensor; it is named.
    """
    for name, tensor in named_tensors(model).items():
        if is_lazy(tensor) or not _holds_numbers(tensor) or tensor.layout != torch.strided:
            raise UnsupportedError(
                "is a lazy, meta, fake or sparse tensor, whose channels cannot be followed",
                where=name,
                hint="materialise the model first",
            )


def check_inputs(x: Inputs) -> None:
    """Checks that the example inputs hold finite numbers.

    Args:
        x: The example inputs.

    Raises:
        UnsupportedError: A meta or fake tensor.
        TraceError: NaN or infinity.
    """
    for name, tensor in tensors_in(x):
        if not _holds_numbers(tensor):
            raise UnsupportedError(
                "the example input is a meta or fake tensor",
                where=name or "x",
                hint="the model is run once: give real numbers",
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise TraceError("the example input is not finite", where=name or "x")


def _holds_numbers(tensor: Tensor) -> bool:
    return not tensor.is_meta and not isinstance(tensor, FakeTensor)


def mismatch(model: nn.Module, x: Inputs) -> str | None:
    """Returns how the device or dtype of example inputs differs from the model's, or None.

    Args:
        model: The model.
        x: Its example inputs.
    """
    own = [tensor for tensor in named_tensors(model).values() if tensor.is_floating_point()]
    given = [tensor for _, tensor in tensors_in(x) if tensor.is_floating_point()]
    for verb, quantity in (("is on", "device"), ("is", "dtype")):
        there = sorted({str(getattr(tensor, quantity)) for tensor in own})
        here = sorted({str(getattr(tensor, quantity)) for tensor in given})
        if there and here and set(there).isdisjoint(here):
            return f"the input {verb} {here[0]}, the model {verb} {there[0]}"
    return None
