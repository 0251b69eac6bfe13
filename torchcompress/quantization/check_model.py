"""What a model must be like to be quantized."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.history import inherit
from torchcompress.core.modules import copied, eval_mode, innermost, named_tensors, unwrapped
from torchcompress.quantization.model import Int8Model

FAKE_QUANTIZERS = "fake_quantizers"
"""The name of the child by which `prepare_qat` marks a module."""


def check_model(model: nn.Module) -> nn.Module:
    """Returns the model inside wrappers, with plain weights, once it can be quantized.

    Raises:
        CompressError: It is no module.
        UnsupportedError: It is scripted, prepared for training or int8 already, holds a wrapped
            module, or a parameter that is not float32, not finite or not there yet.
    """
    model = unwrapped(model)
    refuse_prepared(model)
    for path, module in model.named_modules():
        if isinstance(module, Int8Model) or _is_quantized_by_torch(module):
            raise UnsupportedError("the model is int8 already", where=path or type(model).__name__)
        if innermost(module) is not module:
            raise UnsupportedError(
                f"is wrapped in {type(module).__name__}",
                where=path,
                hint="put the plain module in its place",
            )
    parameters = {id(parameter) for parameter in model.parameters()}
    for name, tensor in named_tensors(model).items():
        if is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided:
            raise UnsupportedError(
                "is a lazy, meta or sparse tensor", where=name, hint="materialise the model first"
            )
        if not tensor.is_floating_point():
            continue
        own = id(tensor) in parameters
        if own and tensor.dtype != torch.float32:
            raise UnsupportedError(
                f"is {tensor.dtype}, not float32", where=name, hint="call model.float() first"
            )
        # A buffer may hold infinity: masks do.
        if not torch.isfinite(tensor).all() if own else torch.isnan(tensor).any():
            raise UnsupportedError(
                "holds NaN or infinity", where=name, hint="restore the checkpoint"
            )
    return with_plain_weights(model)


def _is_quantized_by_torch(module: nn.Module) -> bool:
    return type(module).__module__.split(".")[:3] == ["torch", "ao", "nn"]


def refuse_prepared(model: nn.Module) -> None:
    """Refuses a model that trains with fake quantization, or holds one that does.

    Raises:
        UnsupportedError: It does.
    """
    for path, module in model.named_modules():
        if FAKE_QUANTIZERS in module._modules:
            raise UnsupportedError(
                "is prepared for quantization-aware training",
                where=path or type(model).__name__,
                hint="tc.convert makes it int8",
            )


def with_plain_weights(model: nn.Module) -> nn.Module:
    """Returns the model, or a copy of it whose parametrized weights are plain ones."""
    if not any(parametrize.is_parametrized(module) for module in model.modules()):
        return model
    plain = copied(model)
    inherit(model, plain)
    with torch.inference_mode(False), torch.no_grad(), eval_mode(plain):
        for module in list(plain.modules()):
            if parametrize.is_parametrized(module):
                _make_plain(module)
    return plain


def _make_plain(module: nn.Module) -> None:
    # Not remove_parametrizations: a copy shares its class, which that would break for the original.
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    weights = {name: getattr(module, name).detach().clone() for name in parametrizations}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, weight in weights.items():
        module.register_parameter(name, nn.Parameter(weight))
