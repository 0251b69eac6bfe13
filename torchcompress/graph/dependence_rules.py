"""What each operation does to the marks of dependence; see `Dependence`."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from torchcompress.graph.operands import tensors_among
from torchcompress.graph.rules.pointwise import pointwise
from torchcompress.graph.rules.registry import Args, Kwargs, argument, find_rule
from torchcompress.graph.rules.sources import uniform
from torchcompress.graph.rules.spatial import OVER_POSITIONS


class Marked(Protocol):
    """What a rule may ask.

    Attributes:
        sized: What the size of the input changes counts as dependent too.
    """

    sized: bool

    def of(self, tensor: Tensor) -> Tensor:
        """Returns a mark for each element of a tensor."""
        ...

    def derived(self, tensor: Tensor) -> bool:
        """Whether a tensor was computed from the input at all."""
        ...


Flow = Callable[[Marked, torch._ops.OpOverload, Args, Kwargs], Tensor]
"""Returns the marks of an operation's result, of its shape or a single one, before it runs."""

PRODUCTS = {
    "aten.convolution": (0, 1, 2), "aten.mm": (0, 1, None), "aten.bmm": (0, 1, None),
    "aten.addmm": (1, 2, 0), "aten.baddbmm": (1, 2, 0),
}  # fmt: skip
"""Contractions, each with the positions of its factors and of what is added."""

ALL = torch.ones((), dtype=torch.bool)
"""The mark of a result that depends on the input everywhere."""

NONE = torch.zeros((), dtype=torch.bool)
"""The mark of a result that depends on it nowhere."""


def dependent(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """Returns which elements of an operation's result may depend on the input or on chance.

    Args:
        marked: Knows the marks of the operands.
        func: The operation, which has not run yet.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        Marks of the shape of the first result, or a single one for all results.
    """
    name = str(func.overloadpacket).removesuffix("_")
    idle = name == "aten.native_dropout" and args[2] is False
    if torch.Tag.nondeterministic_seeded in func.tags and not idle:
        return ALL
    rule = find_rule(func)
    if rule is uniform or not any(map(marked.derived, tensors_among((args, kwargs)))):
        return NONE
    flow = _FLOWS.get(name, _met if rule is pointwise else None)
    if flow is None or (func._schema.is_mutable and flow not in (_met, _times, _copied)):
        return ALL
    return flow(marked, func, args, kwargs)


def border_taps(args: Args) -> Tensor:
    """Returns which taps of a kernel may read a border of zeros, whatever the input's size.

    Of a transposed convolution all count, since it maps a constant to what differs from place to
    place.

    Args:
        args: Of `aten.convolution`.
    """
    weight, padding, dilation, transposed = args[1], args[4], args[5], args[6]
    shape = weight.shape[2:]
    taps = torch.full(shape, bool(transposed))
    for axis, (size, pad, step) in enumerate(zip(shape, padding, dilation, strict=True)):
        at = step * torch.arange(size)
        edge = (at < pad) | (at > step * (size - 1) - pad)
        taps |= edge.view(-1, *(1 for _ in shape[axis + 1 :]))
    return taps.to(weight.device)


def _alive(marked: Marked, tensor: Tensor) -> Tensor:
    """Returns which numbers are not known to be zero."""
    return marked.of(tensor) | (tensor != 0)


def _met(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """Numbers meet one by one."""
    marks, *others = (marked.of(tensor) for tensor in tensors_among((args, kwargs)))
    for other in others:
        marks = marks | other
    return marks


def _times(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """A factor that is zero hides the other."""
    a, b = args[:2]
    if not isinstance(b, Tensor):
        return marked.of(a) & (b != 0)
    return (marked.of(a) & _alive(marked, b)) | (_alive(marked, a) & marked.of(b))


def _copied(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """The source replaces the target."""
    return marked.of(args[1]).expand(args[0].shape)


def _product(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """A factor that is zero hides what it multiplies."""
    left, right, added = PRODUCTS[str(func.overloadpacket)]
    a, b = args[left], args[right]
    factors = list(args)
    if added is not None and args[added] is not None:
        if marked.of(args[added]).any():
            return ALL
        factors[added] = torch.zeros(args[added].shape, device=a.device)
    marks = NONE
    pairs = ((marked.of(a), _alive(marked, b)), (_alive(marked, a), marked.of(b)))
    for factors[left], factors[right] in pairs:
        factors[left], factors[right] = factors[left].float(), factors[right].float()
        marks = marks | (func(*factors) > 0.5)  # A sum of ones, but for rounding.
    return marks


def _convolved(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """What a border adds to a constant differs from place to place, as the input's size has it."""
    marks, border = _product(marked, func, args, kwargs), border_taps(args)
    if not (border.any() and marked.sized):
        return marks
    spatial = range(2, args[0].dim())
    x = _alive(marked, args[0]).float().amax([*spatial], keepdim=True)
    weight = (_alive(marked, args[1]) & border).float().amax([*spatial], keepdim=True)
    once, nothing = [1 for _ in spatial], [0 for _ in spatial]
    meets = func(x, weight, None, once, nothing, once, args[6], nothing, args[8]) > 0.5
    return marks | meets


def _attended(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """The average of values that are all zero is zero, whatever the weights."""
    queries, _, values = args[:3]
    alive = _alive(marked, values).any(2, keepdim=True)
    return alive.expand(*alive.shape[:2], queries.shape[2], -1)


def _normed(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """A channel whose gain is zero gives its shift; statistics of the batch read all of it."""
    x, gain = args[:2]
    if any(value is True for value in args):  # The only flag is that of training.
        return ALL
    alive = ALL if gain is None else (gain != 0).view(-1, *(1 for _ in x.shape[2:]))
    return marked.of(x) & alive


def _carried(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """The marks move, or are averaged, like the numbers."""
    return _run_on(marked.of, marked, func, args, kwargs)


def _summed(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """A sum of a constant depends on how many there are, which the size of the input decides."""
    if not marked.sized:
        return _carried(marked, func, args, kwargs)
    return _run_on(lambda tensor: _alive(marked, tensor), marked, func, args, kwargs)


def _averaged(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """A window that counts zeros around the input, or has a divisor of its own, is like a sum."""
    padded = any(argument(args, kwargs, 3, "padding", ()))
    counted = padded and argument(args, kwargs, 5, "count_include_pad", True)
    own = argument(args, kwargs, 6, "divisor_override") is not None
    return (_summed if counted or own else _carried)(marked, func, args, kwargs)


def _padded(marked: Marked, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Tensor:
    """Around a constant, a border of another value counts as dependence on the input's size.

    Channels that are added are no border.
    """
    x, pads = args[:2]
    value = argument(args, kwargs, 2, "value", 0)
    border = any(pads[: 2 * max(0, x.dim() - 2)])
    marks = marked.of(x) | (x != value) if border and marked.sized else marked.of(x)
    return torch.constant_pad_nd(marks.float(), pads, 0) > 0


def _run_on(
    marks: Callable[[Tensor], Tensor],
    marked: Marked,
    func: torch._ops.OpOverload,
    args: Args,
    kwargs: Kwargs,
) -> Tensor:
    """Runs an operation that only moves, adds or compares numbers on marks in their place."""
    whole = [t for t in tensors_among((args, kwargs)) if not t.is_floating_point()]
    if any(bool(marked.of(tensor).any()) for tensor in whole):
        return ALL

    def marks_of(value: Any) -> Any:
        floats = isinstance(value, Tensor) and value.is_floating_point()
        return marks(value).float() if floats else value

    out = func(*tree_map(marks_of, args), **tree_map(marks_of, kwargs))
    return (out[0] if isinstance(out, tuple) else out) > 0


_FLOWS: dict[str, Flow] = {
    **{
        name: _carried
        for names in OVER_POSITIONS.values()
        for name in names
        if "bicubic" not in name  # Its weights have either sign.
    },
    **dict.fromkeys(
        ("aten.clone", "aten._to_copy", "aten.cat", "aten.stack", "aten.index_select", "aten.index",
         "aten._unsafe_index", "aten.gather", "aten.roll", "aten.flip", "aten.repeat", "aten.view",
         "aten._unsafe_view", "aten.reshape", "aten._reshape_copy", "aten.pixel_shuffle",
         "aten.pixel_unshuffle", "aten.channel_shuffle", "aten.native_channel_shuffle",
         "aten.mean", "aten.amax"),
        _carried,
    ),
    **dict.fromkeys(("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d"), _averaged),
    **dict.fromkeys(PRODUCTS, _product),
    "aten.convolution": _convolved,
    **dict.fromkeys(
        ("aten._native_batch_norm_legit_no_training", "aten.native_batch_norm",
         "aten.cudnn_batch_norm"),
        _normed,
    ),
    **dict.fromkeys(
        ("aten._scaled_dot_product_flash_attention_for_cpu",
         "aten._scaled_dot_product_flash_attention",
         "aten._scaled_dot_product_efficient_attention"),
        _attended,
    ),
    "aten.mul": _times,
    "aten.copy": _copied,
    "aten.sum": _summed,
    "aten.constant_pad_nd": _padded,
}  # fmt: skip
