"""The int8 models inside a model, exchanged for other modules."""

from collections.abc import Callable

from torch import nn

from torchcompress.core.modules import copied
from torchcompress.quantization import Int8Model, PartlyInt8Model


def exchanged(model: nn.Module, make: Callable[[str, Int8Model], nn.Module]) -> nn.Module:
    """Returns a copy of a model in eval mode, with other modules for its int8 models.

    Args:
        model: An int8 model, one that holds some, or one that holds none.
        make: From a path and an int8 model to the module that takes its place.
    """
    if isinstance(model, Int8Model):
        return make("", model)
    if isinstance(model, PartlyInt8Model):
        model = model.model
    result = copied(model).eval()
    for path, part in int8_parts(result).items():
        result.set_submodule(path, make(path, part))
    return result


def int8_parts(model: nn.Module) -> dict[str, Int8Model]:
    """Returns the int8 models of a model by path; of an int8 model, itself under `""`."""
    return {path: part for path, part in model.named_modules() if isinstance(part, Int8Model)}
