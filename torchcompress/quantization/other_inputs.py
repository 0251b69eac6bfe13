"""A second look at what was read of a model, on inputs that calibration did not see."""

from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError, UnsupportedError
from torchcompress.core.inputs import map_tensors, tensors_in
from torchcompress.quantization.calibrate import Batches, is_close
from torchcompress.quantization.unchanged import unchanged


def varied(inputs: Any) -> Any:
    """Returns other inputs of the same kind.

    Floating-point values fade in along the last dimension, which keeps their signs, their order
    and their bounds, and which no normalization undoes. Integers are reversed along it.
    """
    return map_tensors(_varied, inputs)


def _varied(x: Tensor) -> Tensor:
    if x.dim() == 0:
        return x
    if not x.is_floating_point():
        return x.flip(-1)
    return x * torch.linspace(0.5, 1.0, x.shape[-1], dtype=x.dtype, device=x.device)


def check_copy(model: nn.Module, copy: nn.Module, batches: Batches, index: int, batch: Any) -> None:
    """Makes sure that a copy of a model computes what the model computes.

    It does not where a hook of the copy still writes to the model that it was copied from.

    Args:
        model: The model.
        copy: Its copy.
        batches: Calibration data.
        index: Of a batch.
        batch: The inputs of that batch.

    Raises:
        UnsupportedError: It does not.
    """
    inputs = varied(batch)
    try:
        with unchanged(model):
            want = dict(tensors_in(batches.call(model, index, inputs)))
    except CalibrationError:
        # A model that does not take such inputs tells nothing.
        return
    with unchanged(model), unchanged(copy):
        try:
            got = dict(tensors_in(batches.call(copy, index, inputs)))
        except CalibrationError as error:
            raise _unlike(model, f" ({error.__cause__})") from error
    if list(got) != list(want) or not all(is_close(got[name], want[name]) for name in want):
        raise _unlike(model)


def _unlike(model: nn.Module, detail: str = "") -> UnsupportedError:
    return UnsupportedError(
        f"a copy of the model does not compute what the model computes{detail}",
        where=type(model).__name__,
        hint="a hook or a function stored on it may refer to the model itself: use bound methods",
    )
