"""Calling a model so that every run takes the path of the traced one."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from torchcompress.core.errors import ExtensionError, TraceError
from torchcompress.core.inputs import Inputs, call, map_tensors, tensors_in
from torchcompress.core.modules import copied, shadow, undisturbed
from torchcompress.graph.checks import mismatch

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Conditions:
    """Under what a model runs; by default in eval mode and without gradients.

    Attributes:
        training: Paths of the modules that run in train mode, for a branch that only training
            takes.
        gradients: Gradients are recorded, for a forward pass that differentiates.
        seed: Random numbers that the model draws are those of this seed.
        writes: The forward pass changes parameters.
    """

    training: tuple[str, ...] = ()
    gradients: bool = False
    seed: int = 0
    writes: bool = False

    def copy(self, model: M) -> M:
        """Returns a copy that may run without any effect on the original."""
        return copied(model) if self.writes else shadow(model)

    @contextmanager
    def hold(self, model: nn.Module) -> Iterator[None]:
        """Keeps a model in these conditions for a block, then restores it."""
        with (
            undisturbed(model),
            torch.set_grad_enabled(self.gradients),
            plain_kernels(),
            _seeded(self.seed),
        ):
            for path in self.training:
                model.get_submodule(path).training = True
            yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    plain, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(numpy)


def random_state() -> list[Any]:
    """Returns where the random numbers of Python, NumPy and torch stand, to be compared."""
    name, key, *rest = np.random.get_state()
    own = torch.get_rng_state().numpy()
    return [random.getstate(), name, np.asarray(key).tobytes(), rest, own.tobytes()]


def on_the_way(names: Iterable[str], model: nn.Module) -> tuple[str, ...]:
    """Returns the modules that hold some tensors or contain one that does, outermost first.

    Norms are left out: in train mode they would take statistics from the example input.

    Args:
        names: Names of parameters and buffers.
        model: The model that has them.
    """
    paths = dict.fromkeys(
        ".".join(parts[:depth])
        for parts in (name.split(".")[:-1] for name in names)
        for depth in range(len(parts) + 1)
    )
    norm = nn.modules.batchnorm._NormBase
    return tuple(path for path in paths if not isinstance(model.get_submodule(path), norm))


def run_model(model: nn.Module, x: Inputs) -> Any:
    """Calls a model on a copy of example inputs, which it may change.

    Raises:
        TraceError: The model fails; the cause is chained.
        ExtensionError: A rule fails.
    """
    try:
        return call(model, map_tensors(Tensor.clone, x))
    except ExtensionError:
        raise
    except Exception as error:  # A forward pass may raise anything.
        shapes = ", ".join(f"{name or 'x'} {tuple(t.shape)}" for name, t in tensors_in(x))
        differs = mismatch(model, x)
        raise TraceError(
            f"the model fails on the example input ({shapes}): {error}",
            where=type(model).__name__,
            hint=differs
            or "give example inputs of the shape, dtype and device that the model is called with",
        ) from error


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Switches autocast and the fused attention path off for a block."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
