"""The solvable layers of a model in the order of its run, and what they read and give."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torchcompress.core.errors import CalibrationError
from torchcompress.core.inputs import (
    Forward,
    calibration_batches,
    call,
    map_tensors,
    tensors_in,
    to_device,
)
from torchcompress.core.modules import device_of, undisturbed
from torchcompress.graph.running import plain_kernels
from torchcompress.reconstruction.layers import (
    CONVOLUTIONS,
    TRANSPOSED,
    Convolution,
    Layer,
    Linear,
    Norm,
    Seen,
)
from torchcompress.reconstruction.projections import projections

See = Callable[[Layer, Seen], None]
"""Called with a layer and one call of it, while the tensors hold what the call read and gave."""


class Calibration:
    """Batches to run a model on; they are held in memory, on the model's device.

    Args:
        batches: Batches of any kind that the model takes; labels are ignored.
        model: The model, for its device.
        forward: How the model is called on a batch.

    Raises:
        CalibrationError: No batch, or one that is not finite.
    """

    def __init__(
        self, batches: Iterable[Any], model: nn.Module, forward: Forward | None = None
    ) -> None:
        device = device_of(model)
        # Gradients are taken on them, which tensors of inference mode do not allow.
        with torch.inference_mode(False):
            self.batches = [
                map_tensors(_usable, to_device(x, device))
                for _, x in calibration_batches(batches, forward)
            ]
        self.forward = forward or call

    def __len__(self) -> int:
        return len(self.batches)

    def run(self, model: nn.Module, index: int) -> Any:
        """Returns the output of a model on a batch, in eval mode; the model is left as it was.

        Raises:
            CalibrationError: The model fails on the batch, which is named.
        """
        with undisturbed(model), plain_kernels():
            return self.call(model, index)

    def call(self, model: nn.Module, index: int) -> Any:
        """Returns the output of a model on a batch, in the mode that it is in.

        Raises:
            CalibrationError: The model fails on the batch, which is named.
        """
        try:
            return self.forward(model, self.batches[index])
        except CalibrationError:
            raise
        except Exception as error:  # A forward pass may raise anything.
            raise CalibrationError(
                f"the model fails on it: {error}",
                where=f"calibration batch {index}",
                hint="let the loader yield what the model is called with, or pass forward=",
            ) from error


def _usable(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


class _SeenAll(BaseException):
    """Ends a forward pass once the last tensor of interest has been seen."""


def solvable_layers(model: nn.Module, calibration: Calibration) -> list[Layer]:
    """Returns the layers whose inputs can be watched, in the order in which one pass calls them.

    These are convolutions, transposed ones too, linear layers and the projections of
    `nn.MultiheadAttention`. Left out are modules that the first batch does not reach, whose weight
    is computed (a parametrization) or shared with another module.

    Args:
        model: Any model; left as it was.
        calibration: The batches; the first one is run.

    Raises:
        CalibrationError: The model fails on the first batch.
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    layers: dict[nn.Module, list[Layer]] = {}
    for path, module in model.named_modules():
        found = [
            layer
            for layer in _views(path, module)
            if _alone(_parameter(model, layer.parameter), owners)
        ]
        if found:
            layers[module] = found
    order: dict[nn.Module, list[Layer]] = {}
    readers = _Readers()
    norms: dict[Layer, set[Norm]] = {}

    def called(module: nn.Module, _args: Any, output: Any) -> None:
        order[module] = layers[module]
        for layer in layers[module]:
            layer.calls += 1
            readers.produced(layer, output)

    def read(module: Norm, args: tuple[Any, ...]) -> None:
        layer = readers.producer(args[0]) if args else None
        if layer is not None:
            norms.setdefault(layer, set()).add(module)

    with ExitStack() as stack:
        for module in model.modules():
            if module in layers:
                stack.callback(module.register_forward_hook(called).remove)
            elif isinstance(module, Norm):
                stack.callback(module.register_forward_pre_hook(read).remove)
        with readers:
            calibration.run(model, 0)
    for layer, found in norms.items():
        if len(found) == 1 and readers.count[layer] == layer.calls:
            layer.norm = next((n for n in found if n.running_mean is not None), None)
    return [layer for found in order.values() for layer in found]


class _Readers(TorchDispatchMode):
    """Counts the operations that read what each layer gives.

    Attributes:
        count: By layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[Layer, int] = {}
        self._producers: dict[int, tuple[weakref.ref[Tensor], Layer]] = {}

    def produced(self, layer: Layer, output: Any) -> None:
        """Notes what a layer has given."""
        if isinstance(output, Tensor):
            self.count.setdefault(layer, 0)
            self._producers[id(output)] = weakref.ref(output), layer

    def producer(self, tensor: Any) -> Layer | None:
        """Returns the layer that gave a tensor."""
        reference, layer = self._producers.get(id(tensor), (None, None))
        return layer if reference is not None and reference() is tensor else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation."""
        for _, tensor in tensors_in((args, kwargs or {})):
            layer = self.producer(tensor)
            if layer is not None:
                self.count[layer] += 1
        return func(*args, **(kwargs or {}))


def watch(
    model: nn.Module, layers: Sequence[Layer], calibration: Calibration, index: int, see: See
) -> None:
    """Runs a model on a batch and shows every call of some layers, then stops the run.

    Args:
        model: The model that the layers are of.
        layers: Which layers.
        calibration: The batches.
        index: Which batch.
        see: Called with a layer and what it read and gave; the tensors may change afterwards.

    Raises:
        CalibrationError: The model fails on the batch, does not call a layer as often as on the
            first batch, or a layer reads what is not finite.
    """
    left = {layer: layer.calls for layer in layers}
    by_module: dict[nn.Module, list[Layer]] = {}
    for layer in layers:
        by_module.setdefault(layer.module, []).append(layer)

    def called(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        for layer in by_module[module]:
            seen = layer.tensors(args, kwargs, output)
            layer.check(seen, index)
            see(layer, seen)
            left[layer] -= 1
        if not any(left.values()):
            raise _SeenAll

    with ExitStack() as stack:
        for module in by_module:
            hook = module.register_forward_hook(called, with_kwargs=True)
            stack.callback(hook.remove)
        try:
            calibration.run(model, index)
        except _SeenAll:
            return
    short = next(layer for layer, count in left.items() if count)
    raise CalibrationError(
        f"is called {short.calls - left[short]} times, and {short.calls} times on the first batch",
        where=f"{short.name}, calibration batch {index}",
        hint="give batches on which the model takes one path",
    )


def _views(path: str, module: nn.Module) -> list[Layer]:
    prefix = f"{path}." if path else ""
    if isinstance(module, nn.MultiheadAttention):
        return list(projections(path, module))
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        return [Convolution(path, f"{prefix}weight", module)]
    if isinstance(module, nn.Linear):
        return [Linear(path, f"{prefix}weight", module)]
    return []


def _alone(parameter: Tensor | None, owners: dict[int, int]) -> bool:
    return parameter is not None and owners.get(id(parameter)) == 1 and parameter.numel() > 0


def _parameter(model: nn.Module, name: str) -> Tensor | None:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path)._parameters.get(attribute)
