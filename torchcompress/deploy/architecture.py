"""Building a fresh model from a name, without running code that nobody allowed."""

import importlib
import inspect
from collections.abc import Collection
from typing import Any

import torch
import torchvision
from torch import nn

from torchcompress.core.errors import CompressError, UnsupportedError, did_you_mean
from torchcompress.core.history import Architecture, remember_architecture

FORBIDDEN_ARGS = ("weights", "weights_backbone")
"""Arguments that would download weights; a model's weights come from its file or its recipe."""


def build(arch: Architecture, *, trust: Collection[str] = ()) -> nn.Module:
    """Returns a fresh model with random weights, in eval mode, that remembers its architecture.

    The random state of the process is left alone.

    Args:
        arch: A torchvision model name, or `package.module:factory`, and constructor arguments.
        trust: The factories outside torchvision that may be called.

    Raises:
        UnsupportedError: An unknown name, or a factory that is not trusted.
        CompressError: Arguments that the constructor refuses.
    """
    for name in FORBIDDEN_ARGS:
        if name in arch.args:
            raise CompressError(f"{name!r} is not an architecture argument", where=arch.name)
    factory = find_factory(arch.name, trust=trust)
    with torch.random.fork_rng(devices=[]):
        try:
            accepted = inspect.signature(factory).parameters
            model = factory(**arch.args, **{n: None for n in FORBIDDEN_ARGS if n in accepted})
        except Exception as error:  # A constructor may raise anything.
            raise CompressError(
                f"cannot be built with {arch.args}: {type(error).__name__}: {error}",
                where=arch.name,
                hint="args go to the constructor of the model",
            ) from error
    if not isinstance(model, nn.Module):
        raise CompressError(f"returns a {type(model).__name__}, no module", where=arch.name)
    remember_architecture(model, arch)
    return model.eval()


def find_factory(name: str, *, trust: Collection[str] = ()) -> Any:
    """Returns the function that builds an architecture.

    Args:
        name: A torchvision model name, or `package.module:factory`.
        trust: The factories outside torchvision that may be called.

    Raises:
        UnsupportedError: An unknown name, or a factory that is not trusted.
    """
    if ":" not in name:
        known = torchvision.models.list_models()
        if name not in known:
            hint = did_you_mean(name, known)
            raise UnsupportedError(f"{name!r} is not a torchvision model", where="arch", hint=hint)
        return torchvision.models.get_model_builder(name)
    if name not in trust:
        raise UnsupportedError(
            f"{name!r} is code outside torchvision, which is only run where it is trusted",
            where="arch",
            hint=f"pass trust=[{name!r}], or give the model itself with model=",
        )
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnsupportedError(
            f"{name!r} cannot be imported: {error}",
            where="arch",
            hint="its module must be installed, or its folder named in PYTHONPATH",
        ) from error
