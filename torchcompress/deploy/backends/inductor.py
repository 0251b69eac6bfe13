"""`torch.compile`, where a C++ compiler is at hand."""

import warnings

import torch
from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Inputs, arguments
from torchcompress.deploy.backends.native import native
from torchcompress.deploy.onnx.parts import int8_parts


def inductor(model: nn.Module, x: Inputs) -> nn.Module:
    """Returns a copy of a model, compiled with its weights as constants.

    Args:
        model: A float model.
        x: Inputs to compile for; others are compiled for at their first call.

    Raises:
        UnsupportedError: An int8 model, no compiler, or code that cannot be compiled.
    """
    if int8_parts(model):
        raise UnsupportedError("cannot compile the oneDNN calls of an int8 model", where="inductor")
    made = torch.compile(native(model, x), options={"freezing": True})
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            args, kwargs = arguments(x)
            made(*args, **kwargs)
    except Exception as error:  # A compiler may fail in any way.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnsupportedError(f"cannot compile: {lines[0]}", where="inductor") from error
    assert isinstance(made, nn.Module)
    return made
