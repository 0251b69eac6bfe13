"""Multiply-accumulates, counted on the operators that really run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from torchcompress.core.inputs import tensors_in
from torchcompress.graph.running import plain_kernels
from torchcompress.quantization.calibrate import Batches, ProgramModule
from torchcompress.quantization.program import Op

_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_RECURRENT = torch.ops.aten.mkldnn_rnn_layer


class Watch(TorchDispatchMode):
    """Counts the multiply-accumulates of convolutions and matrix products, and who is read.

    Attributes:
        macs: Counted so far.
        read: Identities of the tensors that operators were given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.read: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.read.update(id(tensor) for _, tensor in tensors_in((args, kwargs)))
        made = func(*args, **kwargs)
        self.macs += _macs(func.overloadpacket, args, kwargs, made)
        return made


def _macs(packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: Any) -> int:
    if packet is _ATTENTION:
        query, key, value = args[:3]
        pairs = math.prod(query.shape[:-1]) * key.shape[-2]
        return pairs * (query.shape[-1] + value.shape[-1])
    if packet is _RECURRENT:
        steps = math.prod(args[0].shape[:2])
        return steps * (args[1].numel() + args[2].numel())
    count = flop_registry.get(packet)
    return 0 if count is None else count(*args, **kwargs, out_val=made) // 2


def samples_in(batch: Any) -> int:
    """Returns how many samples a batch holds: the length of its first tensor or list of images.

    Tensors without a dimension are passed over.

    Args:
        batch: A model's inputs, for a detector a tuple that holds a list of images; or a loader's
            batch, inputs first.
    """
    # A loader's own batch is (inputs, labels), be it a list.
    return max(1, _samples(tuple(batch) if isinstance(batch, list) else batch))


def _samples(inputs: Any) -> int:
    if isinstance(inputs, Tensor):
        return len(inputs) if inputs.dim() else 1
    if isinstance(inputs, Mapping):
        inputs = tuple(inputs.values())
    if isinstance(inputs, tuple):
        inputs = tuple(x for x in inputs if not isinstance(x, Tensor) or x.dim())
        return _samples(inputs[0]) if inputs else 1
    if isinstance(inputs, Sequence) and inputs:
        return len(inputs) if isinstance(inputs[0], Tensor) and inputs[0].dim() < 4 else 1
    return 1


def op_macs(module: ProgramModule, batches: Batches) -> dict[str, int]:
    """Returns the multiply-accumulates of each operation for one sample, by output.

    Operations without any are left out; where a program runs several times on a batch, all its
    runs count.

    Args:
        module: A float program.
        batches: The first one is run.
    """
    found: dict[str, int] = {}
    watch, before = Watch(), 0

    def observe(op: Op | None, value: str, made: Any) -> None:
        nonlocal before
        if op is not None and watch.macs > before:
            found[value] = found.get(value, 0) + watch.macs - before
        before = watch.macs

    module.observe = observe
    try:
        with torch.inference_mode(False), torch.no_grad(), plain_kernels(), watch:
            batches.call(module, batches.first_index, batches.first)
    finally:
        module.observe = None
    samples = samples_in(batches.first)
    return {value: round(macs / samples) for value, macs in found.items()}
