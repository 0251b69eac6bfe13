"""Placement: which layers compute faster here in float32 than on integers."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchcompress.quantization.int8 import kernels
from torchcompress.quantization.lower import lower, uint8_classes
from torchcompress.quantization.operations import CHANNELS_LAST, INTEGER
from torchcompress.quantization.program import Op, Program, QParams, Shapes
from torchcompress.quantization.ranges import range_classes
from torchcompress.quantization.value_types import ValueType, infer_types

Shape = tuple[int, ...]

_CANDIDATES = ("conv1d", "conv2d", "conv3d", "linear")
_MARGIN = 1.1
"""Float32 must be so many times faster, so that noise decides nothing."""
_BATCHES = (1, 8)
"""Float32 must be faster at each of these batch sizes, since a model may meet any."""
_SECONDS, _FEWEST, _MOST = 4e-3, 3, 40


@dataclass(frozen=True)
class Call:
    """All that the time of an operation depends on.

    Args:
        op: The operation.
        types: Of its inputs.
        shapes: Of its inputs.
        weight: Shape of its weight, where it has one.
    """

    op: Op
    types: tuple[ValueType, ...]
    shapes: tuple[Shape, ...]
    weight: Shape | None

    @property
    def key(self) -> str:
        """A text that is equal for calls that take equally long: grids do not count."""
        op, grids = self.op, [isinstance(kind, QParams) for kind in self.types]
        out = op.out is not None
        return json.dumps([op.kind, op.args, op.int8, out, grids, self.shapes, self.weight])


Seconds = Callable[[Call], float]


def call_seconds(call: Call) -> float:
    """Returns the shortest time that a call of the native kernels took, on random numbers."""
    # Its own, so that training afterwards does not hang on what was timed.
    random = torch.Generator().manual_seed(0)
    inputs = [_random(s, t, random) for s, t in zip(call.shapes, call.types, strict=True)]
    op, tensors = call.op, dict[str, Tensor]()
    if call.weight is not None:
        tensors[f"{op.layer}.bias"] = torch.zeros(call.weight[0], dtype=torch.float32)
        tensors[f"{op.layer}.scale"] = torch.full((call.weight[0],), 0.01, dtype=torch.float32)
        weight = torch.randint(-127, 128, call.weight, dtype=torch.int8, generator=random)
        tensors[f"{op.layer}.weight"] = weight
    times: list[float] = []
    with torch.no_grad():
        run = kernels.bind(op, call.types, tensors, call.shapes)
        run(*inputs)
        while len(times) < _FEWEST or (sum(times) < _SECONDS and len(times) < _MOST):
            start = time.perf_counter()
            run(*inputs)
            times.append(time.perf_counter() - start)
    return min(times)


def _random(shape: Shape, kind: ValueType, random: torch.Generator) -> Tensor:
    if isinstance(kind, QParams):
        x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    else:
        x = torch.randn(shape, generator=random, dtype=torch.float32)
    return x.contiguous(memory_format=CHANNELS_LAST) if x.dim() == 4 else x


@dataclass
class _Times:
    """The time of each distinct call, measured when it is first asked for."""

    seconds: Seconds
    known: dict[str, float] = field(default_factory=dict)

    def total(self, calls: Iterable[Call]) -> float:
        """Returns the time of calls together."""
        total = 0.0
        for call in calls:
            if call.key not in self.known:
                self.known[call.key] = self.seconds(call)
            total += self.known[call.key]
        return total


def slower_layers(
    program: Program,
    int8: Collection[str],
    grids: Mapping[str, QParams],
    weights: Mapping[str, Shape],
    shapes: Shapes,
    seconds: Seconds | None = None,
) -> dict[str, str]:
    """Returns the layers that are slower on integers than in float32, crossings included.

    Their weights stay int8; only their arithmetic is float32. Layers are tried one after another,
    in the order of the program, each beside what was decided before.

    Args:
        program: The fused float program.
        int8: Outputs of the operations that can compute on integers.
        grids: By value that these store as uint8.
        weights: Shape of the weight of each layer.
        shapes: Of the values on one batch.
        seconds: Of a call; `call_seconds` where None.

    Returns:
        Why, by output.
    """
    times = _Times(seconds or call_seconds)
    classes = range_classes(program)
    batches = [_with_batch(program, shapes, size) for size in _BATCHES]
    found: dict[str, str] = {}

    def lowered(slower: Collection[str]) -> dict[_Place, _Site]:
        integer = set(int8) - set(slower)
        stored = uint8_classes(program, classes, integer)
        kept = {value: grid for value, grid in grids.items() if classes[value] in stored}
        made, _ = lower(program, integer, kept, slower)
        return _sites(program, made)

    now = lowered(found)
    for op in program.ops:
        if op.output not in int8 or op.kind not in _CANDIDATES or len(op.inputs) > 1:
            continue
        moved = lowered([*found, op.output])
        gone = [site for place, site in now.items() if place not in moved]
        come = [site for place, site in moved.items() if place not in now]
        ratios: list[float] = []
        for sized in batches:
            saved, added = (
                times.total(_at(site, weights, sized) for site in sites) for sites in (gone, come)
            )
            ratios.append(saved / added)
            if ratios[-1] < _MARGIN:
                break
        else:
            found[op.output] = f"int8 weights; in float32 {min(ratios):.1f} times as fast here"
            now = moved
    return found


_Place = tuple[str, str, bool, bool, tuple[bool, ...]]
"""An operation of a lowered program: its value and kind, and which of its ends are integers."""
_Site = tuple[Op, tuple[ValueType, ...], tuple[str, ...]]
"""An operation of a lowered program, the types of its inputs, and these in the float program."""


def _sites(program: Program, lowered: Program) -> dict[_Place, _Site]:
    """Returns the operations of a lowered program that read tensors alone."""
    types = infer_types(lowered)
    pairs = zip(lowered.inputs, program.inputs, strict=True)
    sources = {value: source for (_, value), (_, source) in pairs}
    originals = iter(program.ops)
    found: dict[_Place, _Site] = {}
    for op in lowered.ops:
        crossing = op.kind in ("quantize", "dequantize")
        source = sources[op.inputs[0]] if crossing else next(originals).output
        sources[op.output] = source
        read: tuple[ValueType, ...] = tuple(types[value] for value in op.inputs)
        if op.kind not in INTEGER and "size" not in read:
            integers = tuple(isinstance(kind, QParams) for kind in read)
            place = (source, op.kind, op.int8, op.out is not None, integers)
            found[place] = op, read, tuple(sources[value] for value in op.inputs)
    return found


def _at(site: _Site, weights: Mapping[str, Shape], shapes: Shapes) -> Call:
    op, types, sources = site
    weight = None if op.layer is None else weights[op.layer]
    return Call(op, types, tuple(shapes[source] for source in sources), weight)


def _with_batch(program: Program, shapes: Shapes, size: int) -> Shapes:
    """Returns shapes with another batch where they hold that of the first input."""
    first = shapes[program.inputs[0][1]]
    batch = first[0] if first else 1
    return {
        value: (shape[0] // batch * size, *shape[1:]) if shape and shape[0] % batch == 0 else shape
        for value, shape in shapes.items()
    }
