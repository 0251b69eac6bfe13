"""Example inputs and batches: what a model is called with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError, CompressError

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""One tensor, a tuple of positional inputs or a dict of keyword inputs."""

Forward = Callable[[nn.Module, Any], Any]
"""How a model is called on a batch, where the default reading of a batch does not fit."""


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Calls `model` on example inputs.

    Args:
        model: The model.
        inputs: A tensor, a tuple of positional inputs or a dict of keyword inputs.

    Raises:
        CompressError: `inputs` is none of these.
    """
    args, kwargs = arguments(inputs)
    return model(*args, **kwargs)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns example inputs as positional and keyword arguments.

    Args:
        inputs: A tensor, a tuple of positional inputs or a dict of keyword inputs.

    Raises:
        CompressError: `inputs` is none of these.
    """
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, tuple):
        return inputs, {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    raise CompressError(
        f"example inputs are a tensor, a tuple or a dict, not {type(inputs).__name__}",
        where="x",
        hint="wrap a list in a tuple: a detector takes ([image],)",
    )


def batch_inputs(batch: Any) -> Inputs:
    """Returns the inputs of a loader's batch.

    A tuple or list is `(inputs, labels, ...)`; a tensor or a dict is all inputs.

    Args:
        batch: What a loader yields.

    Raises:
        CompressError: An empty tuple, or a type that holds no inputs.
    """
    if isinstance(batch, list | tuple):
        if not batch:
            raise CompressError("a batch is an empty tuple", where="loader")
        inputs = batch[0]
        return tuple(inputs) if isinstance(inputs, list) else inputs
    if isinstance(batch, Tensor | Mapping):
        return batch
    raise CompressError(
        f"a batch is a tensor, a dict or a tuple, not {type(batch).__name__}",
        where="loader",
        hint="pass forward= to say how the model is called on a batch",
    )


def batch_labels(batch: Any) -> Any:
    """Returns the labels of a batch `(inputs, labels, ...)`.

    Args:
        batch: What a loader yields.

    Raises:
        CompressError: The batch has no labels.
    """
    if isinstance(batch, list | tuple) and len(batch) > 1:
        return batch[1]
    raise CompressError(
        "a batch has no labels", where="loader", hint="let the loader yield (inputs, labels)"
    )


def tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor in nested tuples, lists, dicts, dataclasses and namespaces.

    Each comes with its path.

    Args:
        value: A tensor or a container of such.
        name: The path of `value` itself.
    """
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors_in(item, f"{name}[{index}]")
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in({f.name: getattr(value, f.name) for f in fields(value)}, name)
    elif isinstance(value, SimpleNamespace):
        yield from tensors_in(vars(value), name)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Returns `value` with `function` applied to every tensor in its containers.

    Args:
        function: What to do with a tensor.
        value: A tensor or a nested tuple, list or dict of such.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def to_device(value: Any, device: torch.device) -> Any:
    """Returns `value` with every tensor on `device`.

    Args:
        value: A tensor or a nested tuple, list or dict of such.
        device: Where to.
    """
    return map_tensors(lambda t: t.to(device, non_blocking=True), value)


def calibration_batches(
    loader: Iterable[Any], forward: Forward | None = None, where: str = "calibration"
) -> Iterator[tuple[int, Any]]:
    """Yields `(index, inputs)` of a calibration loader and refuses unusable data.

    With `forward` the whole batch is yielded, since only `forward` knows what it holds.

    Args:
        loader: Batches; labels are ignored.
        forward: How the model is called on a batch.
        where: The argument that the loader was given as, for the error.

    Raises:
        CalibrationError: No batch, a batch that holds NaN or infinity (named), or nothing that
            yields batches.
    """
    index = -1
    try:
        batches = iter(loader)
    except TypeError as error:
        raise CalibrationError(
            f"{type(loader).__name__} does not yield batches",
            where=where,
            hint="pass a loader or a list of batches",
        ) from error
    for index, batch in enumerate(batches):
        inputs = batch if forward is not None else batch_inputs(batch)
        tensors = list(tensors_in(inputs))
        if tensors and not any(tensor.numel() for _, tensor in tensors):
            raise CalibrationError(
                "it holds no samples",
                where=f"{where} batch {index}",
                hint="leave empty batches out",
            )
        for name, tensor in tensors:
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CalibrationError(
                    "the input is not finite (NaN or infinity)",
                    where=f"{where} batch {index}{' ' + name if name else ''}",
                    hint="look at the transform that made it",
                )
        yield index, inputs
    if index < 0:
        raise CalibrationError(
            "the loader yielded nothing",
            where=where,
            hint="a few hundred samples are enough",
        )


def run_batch(run: Forward, model: nn.Module, batch: Any, where: str) -> Any:
    """Returns what a model gives on a batch.

    Args:
        run: How the model is called.
        model: The model.
        batch: What it is called on.
        where: The batch's name, such as `calibration batch 0`.

    Raises:
        CalibrationError: The model fails on it.
    """
    try:
        return run(model, batch)
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        raise CalibrationError(
            f"the model fails on it: {error}",
            where=where,
            hint="let the loader yield what the model is called with, or pass forward=",
        ) from error
