"""From a module to an ONNX model, with a dynamic batch."""

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.core.inputs import Inputs, arguments

OPSETS = range(18, 24)
_LARGEST_FILE = 2**31 - 1


def to_onnx(
    model: nn.Module, x: Inputs, opset: int, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Exports a module.

    The first dimension of each input tensor of the batch's size stays free; all others are fixed.

    Args:
        model: In eval mode.
        x: Example inputs, of at least two samples, since a batch of one is taken as a constant.
        opset: Version of the ONNX operators.
        inputs: Names of the inputs in the file; none keeps those of `forward`.
        outputs: Names of the outputs.

    Raises:
        CompressError: An opset that is not supported.
        UnsupportedError: The forward pass cannot be written as a graph, or only for one batch
            size, or its file would pass 2 GB.
    """
    if opset not in OPSETS:
        raise CompressError(
            f"{opset} is not supported", where="opset", hint=f"{OPSETS[0]} to {OPSETS[-1]} are"
        )
    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    if size > _LARGEST_FILE:
        raise UnsupportedError("its tensors pass the 2 GB of an ONNX file", where="model")
    args, kwargs = arguments(x)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                args,
                kwargs=kwargs,
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=_dynamic_shapes(model, args, kwargs),
                input_names=inputs or None,
                output_names=outputs,
                verbose=False,
            )
    except Exception as error:  # Whatever a forward pass or the exporter may raise.
        raise UnsupportedError(
            f"cannot be exported: {_root(error)}",
            where=type(model).__name__,
            hint="the forward pass must not depend on values or on the size of the batch",
        ) from error
    assert program is not None
    made = program.model_proto
    _check_batch(made, model)
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what torch prints of a graph that it could not finish: the error says it shorter.

    A logger that was given a level of its own (`TORCH_LOGS`) goes on.
    """
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _dynamic_shapes(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.dim()]
    size = tensors[0].shape[0] if tensors else None
    batch = torch.export.Dim("batch")

    def shape(value: Any) -> Any:
        if isinstance(value, Tensor):
            return {0: batch} if value.dim() and value.shape[0] == size else None
        return None

    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    kinds = bound.signature.parameters
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if kinds[name].kind is inspect.Parameter.VAR_POSITIONAL:
            found[name] = tuple(shape(item) for item in value)
        elif kinds[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= {key: shape(item) for key, item in value.items()}
        else:
            found[name] = shape(value)
    return found


def _root(error: BaseException) -> str:
    """Returns the first line of the error that the exporter's own errors came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _check_batch(made: onnx.ModelProto, model: nn.Module) -> None:
    names = [value.name for value in made.graph.input]
    free = any(
        value.type.tensor_type.shape.dim[0].dim_param
        for value in made.graph.input
        if value.type.tensor_type.shape.dim
    )
    if names and not free:
        raise UnsupportedError("is exported for one batch size only", where=type(model).__name__)
