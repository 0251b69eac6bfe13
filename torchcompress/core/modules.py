"""Small tools over modules: paths, modes, and leaving a model as it was found."""

import fnmatch
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, did_you_mean


def device_of(model: nn.Module) -> torch.device:
    """Returns the device of a model's first parameter or buffer, the CPU where it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switches a model to eval mode and gives every module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
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
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


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
