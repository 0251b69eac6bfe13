"""What a model's layers take in int8, at several widths: what pruning before quantizing saves."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchcompress.core.inputs import Inputs, map_tensors
from torchcompress.metrics import LatencyTable
from torchcompress.metrics.latency_table import Timed, float_layer, is_depthwise
from torchcompress.quantization.int8 import kernels
from torchcompress.quantization.operations import CHANNELS_LAST
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.quantize import quantize

_GRID = QParams(0.02, 31)
"""Times do not depend on the grid."""


def int8_latency_table(model: nn.Module, x: Inputs, *, threads: int = 1) -> LatencyTable:
    """Measures what a model and its layers take in int8 on the CPU.

    Pass it to `plan_channels(..., latency_table=...)`, so that a cut goes where the int8 model
    that is made of it later spends its time. Layers without an int8 kernel, such
    as transposed ones, are timed in float.

    Args:
        model: A float model that can be quantized; left as it was.
        x: Example inputs; the batch counts.
        threads: How many threads torch may use; restored afterwards.

    Raises:
        CompressError: As in `quantize`; the model fails on `x`.
    """
    last = copy.deepcopy(model).to("cpu", memory_format=CHANNELS_LAST)  # pyright: ignore[reportCallIssue]
    given = map_tensors(_channels_last, x)
    return LatencyTable.measure(
        last,
        given,
        threads=threads,
        precision="int8",
        build=int8_layer,
        whole=quantize(last, [(given,)]),
    )


def int8_layer(layer: Timed, x: Tensor, inputs: int, outputs: int) -> Callable[[], object]:
    """Returns a call of a layer like this one with other numbers of channels, in int8."""
    if isinstance(layer, nn.Linear):
        op, kernel, groups = _op("linear", {"activation": None}), (), 1
        shape = (*x.shape[:-1], inputs)
    elif isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str):
        groups = inputs if is_depthwise(layer) else layer.groups
        window = {name: list(getattr(layer, name)) for name in ("stride", "padding", "dilation")}
        op = _op("conv2d", {**window, "groups": groups, "activation": None})
        kernel, shape = layer.kernel_size, (x.shape[0], inputs, *x.shape[2:])
    else:
        return float_layer(layer, x, inputs, outputs)
    tensors = {
        "layer.weight": torch.randint(
            -127, 128, (outputs, inputs // groups, *kernel), dtype=torch.int8
        ),
        "layer.scale": torch.full((outputs,), 0.01, dtype=torch.float32),
        "layer.bias": torch.zeros(outputs, dtype=torch.float32),
    }
    given = _channels_last(torch.randint(0, 256, shape, dtype=torch.uint8))
    run = kernels.bind(op, [_GRID], tensors, [shape])
    return lambda: run(given)


def _op(kind: str, args: dict[str, object]) -> Op:
    return Op(kind, "y", ("x",), args, layer="layer", int8=True, out=_GRID)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=CHANNELS_LAST) if x.dim() == 4 else x
