"""What the layers of a model take, each measured alone at several widths."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from torchcompress.core.inputs import Inputs, map_tensors
from torchcompress.core.modules import undisturbed
from torchcompress.core.progress import progress
from torchcompress.graph.running import run_model
from torchcompress.metrics.latency import measure_latency, thread_count

Timed = nn.Linear | _ConvNd
BuildLayer = Callable[[Timed, Tensor, int, int], Callable[[], object]]
"""From a layer, its input and numbers of input and output channels to a call of such a layer."""

_FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
_MULTIPLE = 8
_CALLS = 7


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one call of a layer over its widths.

    Attributes:
        inputs: Numbers of input channels, rising.
        outputs: Numbers of output channels, rising; one where they follow the inputs.
        ms: A row for each number of input channels.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]

    def at(self, inputs: float, outputs: float) -> float:
        """Returns the milliseconds at any widths, interpolated between the measured ones."""
        rows = [float(np.interp(outputs, self.outputs, row)) for row in self.ms]
        return float(np.interp(inputs, self.inputs, rows))


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """What a model and its layers take on one machine, as plain data.

    Attributes:
        model_ms: Milliseconds of the whole model.
        layers: For each layer, by path, the times of each of its calls, in order.
        threads: How many threads torch could use.
        layout: `channels_last` or `contiguous`, as the model's own tensors are.
        precision: `float32` or `int8`.
    """

    model_ms: float
    layers: dict[str, tuple[LayerTimes, ...]]
    threads: int
    layout: str
    precision: str

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        x: Inputs,
        *,
        threads: int = 1,
        precision: str = "float32",
        build: BuildLayer | None = None,
        whole: nn.Module | None = None,
    ) -> Self:
        """Measures a model on the CPU: as a whole, and each convolution and linear layer alone.

        A layer is timed on inputs of its real shape and layout, at an eighth, a quarter, a half,
        three quarters and all of its input and output channels. Equal layers are timed once.

        Args:
            model: Any model; left as it was.
            x: Example inputs; the batch counts.
            threads: How many threads torch may use; restored afterwards.
            precision: What `build` builds.
            build: Builds a layer of other widths; by default in float.
            whole: The model in the precision of `build`; by default `model`.

        Raises:
            TraceError: The model fails on `x`.
        """
        model = copy.deepcopy(model).eval().to("cpu")
        x = map_tensors(lambda tensor: tensor.detach().cpu(), x)
        calls = _layer_calls(model, x)
        known: dict[str, LayerTimes] = {}
        layers: dict[str, list[LayerTimes]] = defaultdict(list)
        with thread_count(threads), torch.inference_mode():
            for path, layer, given in progress(calls, "latency table", unit="layer"):
                key = f"{layer} {tuple(given.shape)} {given.stride()}"
                if key not in known:
                    known[key] = _layer_times(layer, given, build or float_layer)
                layers[path].append(known[key])
        layout = layout_of(model)
        last = layout == "channels_last"
        timings = measure_latency(
            {"model": (whole or model, x)}, threads=threads, rounds=5, channels_last=last
        )
        return cls(
            model_ms=timings.milliseconds("model"),
            layers={path: tuple(times) for path, times in layers.items()},
            threads=threads,
            layout=layout,
            precision=precision,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the table as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the table that `to_json` described."""
        layers = {
            path: tuple(
                LayerTimes(
                    tuple(times["inputs"]), tuple(times["outputs"]), tuple(map(tuple, times["ms"]))
                )
                for times in calls
            )
            for path, calls in data["layers"].items()
        }
        return cls(**{**data, "layers": layers})


def layout_of(model: nn.Module) -> str:
    """Returns the memory format of a model's convolutions: `channels_last` or `contiguous`."""
    for parameter in model.parameters():
        last = parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
        if last and not parameter.is_contiguous():
            return "channels_last"
    return "contiguous"


def float_layer(layer: Timed, x: Tensor, inputs: int, outputs: int) -> Callable[[], object]:
    """Returns a call of a layer like this one with other numbers of channels, in float."""
    given = resized(x, 1 if isinstance(layer, _ConvNd) else -1, inputs)
    own = _resized_layer(layer, inputs, outputs).eval()
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        own = own.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return lambda: own(given)


def resized(x: Tensor, dim: int, size: int) -> Tensor:
    """Returns random values like a tensor with another size of one dimension, laid out alike."""
    shape = list(x.shape)
    shape[dim] = size
    made = torch.rand(shape, dtype=x.dtype)
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return made.contiguous(memory_format=torch.channels_last) if last else made


def is_depthwise(layer: Timed) -> bool:
    """Whether the output channels of a layer follow its input channels."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.in_channels > 1


def _resized_layer(layer: Timed, inputs: int, outputs: int) -> Timed:
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, layer.bias is not None)
    settings: dict[str, Any] = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": inputs if is_depthwise(layer) else layer.groups,
        "bias": layer.bias is not None,
        "padding_mode": layer.padding_mode,
    }
    if isinstance(layer, _ConvTransposeNd):
        settings["output_padding"] = layer.output_padding
    kind = next(kind for kind in type(layer).__mro__ if kind.__module__ == "torch.nn.modules.conv")
    return kind(inputs, outputs, **settings)


def _layer_calls(model: nn.Module, x: Inputs) -> list[tuple[str, Timed, Tensor]]:
    """Returns every call of a convolution or linear layer, with its input, in order."""
    calls: list[tuple[str, Timed, Tensor]] = []
    hooks = []
    for path, module in model.named_modules():
        if isinstance(module, Timed):

            def see(layer: Timed, args: tuple[Tensor, ...], path: str = path) -> None:
                calls.append((path, layer, args[0].detach()))

            hooks.append(module.register_forward_pre_hook(see))
    try:
        with undisturbed(model):
            run_model(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _layer_times(layer: Timed, x: Tensor, build: BuildLayer) -> LayerTimes:
    if isinstance(layer, nn.Linear):
        groups, ins, outs = 1, layer.in_features, layer.out_features
    else:
        groups, ins, outs = layer.groups, layer.in_channels, layer.out_channels
    if is_depthwise(layer):
        inputs, outputs = _widths(ins, 1), (outs,)
        each = outs // ins
        rows = [(_milliseconds(build(layer, x, n, n * each)),) for n in inputs]
    else:
        inputs, outputs = _widths(ins, groups), _widths(outs, groups)
        rows = [tuple(_milliseconds(build(layer, x, n, m)) for m in outputs) for n in inputs]
    return LayerTimes(inputs, outputs, tuple(rows))


def _widths(size: int, groups: int) -> tuple[int, ...]:
    multiple = int(np.lcm(_MULTIPLE, groups))
    part = {max(multiple, round(size * f / multiple) * multiple) for f in _FRACTIONS[:-1]}
    return tuple(sorted({n for n in part if n < size} | {size}))


def _milliseconds(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)
