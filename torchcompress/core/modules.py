"""Small tools over modules: paths, modes, and leaving a model as it was found."""

import copy
import fnmatch
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from torchcompress.core.errors import CompressError, UnsupportedError, did_you_mean
from torchcompress.core.inputs import tensors_in

M = TypeVar("M", bound=nn.Module)

_BOOKKEEPING = vars(nn.Module()).keys()
"""Attributes that every module has."""

_ATOMS = {bool, int, float, str, type(None)}
"""Types of values that are their own copies."""

_MAKE: Any = object().__reduce_ex__(4)[0]
"""What makes an object whose class has no way of its own to be copied."""


def innermost(model: nn.Module) -> nn.Module:
    """Returns the model inside the wrappers of `torch.compile`, data and distributed parallel."""
    while True:
        inner = dict(model.named_children()).get("_orig_mod")
        if inner is None and isinstance(model, DataParallel | DistributedDataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the model inside wrappers, whose modules can be looked into.

    Raises:
        CompressError: It is no module.
        UnsupportedError: It is scripted, so that its code is compiled already.
    """
    if not isinstance(model, nn.Module):
        raise CompressError(
            f"a model is a torch.nn.Module, not {type(model).__name__}", where="model"
        )
    model = innermost(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedError(
            "is a scripted model, whose code is fixed",
            where=type(model).__name__,
            hint="compress the Python model, then script what comes out",
        )
    return model


def copied(model: M, memo: dict[int, Any] | None = None) -> M:
    """Returns a deep copy of a model; results that it keeps lose their gradient history.

    Args:
        model: The model.
        memo: Objects that stand for others in the copy, by the identity of the others.

    Raises:
        UnsupportedError: It holds something that cannot be copied, such as a lock.
    """
    memo = memo or {}
    modules = list(model.modules())
    for module in modules:
        for attribute, value in vars(module).items():
            own = attribute not in _BOOKKEEPING or (attribute == "_buffers" and value)
            if own and not _is_atomic(value):
                for _, tensor in tensors_in(value):
                    if not tensor.is_leaf:
                        memo.setdefault(id(tensor), tensor.detach().clone())
    try:
        _copy_plain(modules, memo)
        return copy.deepcopy(model, memo)
    except Exception as error:  # A module may hold anything.
        raise UnsupportedError(
            f"the model cannot be copied: {error}",
            where=type(model).__name__,
            hint="drop what copy.deepcopy refuses, such as a file or a lock",
        ) from error


def _copy_plain(modules: Iterable[nn.Module], memo: dict[int, Any]) -> None:
    """Copies modules that have no way of their own to be copied, as `copy.deepcopy` would.

    It would spend most of its time on the two dozen attributes that every module has.
    """
    plain = []
    for module in modules:
        if id(module) not in memo and not hasattr(module, "__deepcopy__"):
            make, arguments, state, *items = module.__reduce_ex__(4)
            if make is _MAKE and isinstance(state, dict) and not any(items):
                memo[id(module)] = _MAKE(*arguments)
                plain.append((module, state))
    for module, state in plain:
        memo[id(module)].__setstate__(
            {
                name: type(value)()
                if name in _BOOKKEEPING and not value
                else value
                if _is_atomic(value)
                else copy.deepcopy(value, memo)
                for name, value in state.items()
            }
        )


def _is_atomic(value: Any) -> bool:
    """Whether a value is its own copy."""
    return type(value) in _ATOMS or (type(value) is tuple and all(map(_is_atomic, value)))


def shadow(model: M) -> M:
    """Returns a copy of a model whose parameters share the memory of the original's.

    Its modules, buffers and attributes are its own, so that whatever a run leaves in them does not
    reach the original. Assigning to `.data` of a parameter gives it memory of its own.

    Raises:
        UnsupportedError: As in `copied`.
    """
    memo: dict[int, Any] = {}
    with torch.inference_mode(False):
        for parameter in model.parameters():
            alias = nn.Parameter(parameter.detach(), parameter.requires_grad)
            vars(alias).update(vars(parameter))
            memo[id(parameter)] = alias
        for buffer in model.buffers():
            memo[id(buffer)] = buffer.detach().clone()
        return copied(model, memo)


def device_of(model: nn.Module) -> torch.device:
    """Returns the device of a model's first parameter or buffer, the CPU where it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switches a model to eval mode and gives every module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Runs a block in eval mode and without gradients, then restores the model.

    Train modes, buffers (values and objects) and the CPU random state are as before afterwards.
    """
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
        try:
            with eval_mode(model):
                yield
        finally:
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                if buffer is not None and value is not None and not torch.equal(buffer, value):
                    buffer.copy_(value)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers by name; a tied tensor appears once, under its first name."""
    parameters: dict[int, tuple[str, Tensor]] = {}
    buffers: dict[int, tuple[str, Tensor]] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for found, own in ((parameters, module._parameters), (buffers, module._buffers)):
            for name, tensor in own.items():
                if tensor is not None:
                    found.setdefault(id(tensor), (prefix + name, tensor))
    return dict((*parameters.values(), *buffers.values()))


def match_names(
    patterns: Iterable[str],
    names: Iterable[str],
    where: str,
    *,
    error: type[CompressError] = CompressError,
) -> list[str]:
    """Returns the names that match any glob, in their own order.

    Args:
        patterns: Globs over dotted names; `*` also matches dots.
        names: What may be matched.
        where: The argument or key that holds the globs, for the error.
        error: The class of error raised.

    Raises:
        CompressError: A glob that matches nothing.
    """
    names = list(names)
    hit: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise error(
                f"{pattern!r} matches nothing", where=where, hint=did_you_mean(pattern, names)
            )
        hit.update(found)
    return [name for name in names if name in hit]
