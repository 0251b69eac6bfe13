"""Kinds that move or pick values and compute nothing."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.kinds import checks
from torchcompress.quantization.kinds.checks import DIM, DIMS, SIZES
from torchcompress.quantization.kinds.kind import Args, Function, Kind, filled, missing

FROM_OPERAND = "operand"
"""Stands for a bound that comes as an operand."""


def _moving(function: Callable[..., Function], **args: checks.Check) -> Kind:
    return Kind(function, args, result="same")


def _reshape(args: Args) -> Function:
    shape = args["shape"]
    return lambda x, *sizes: x.reshape(filled(shape, sizes))


def _expand(args: Args) -> Function:
    shape = args["shape"]
    return lambda x, *sizes: x.expand(filled(shape, sizes))


def _repeat(args: Args) -> Function:
    counts = args["counts"]
    return lambda x, *sizes: x.repeat(filled(counts, sizes))


def _slice(args: Args) -> Function:
    dim, start, stop, step = args["dim"], args["start"], args["stop"], args["step"]

    def run(x: Tensor, *sizes: int) -> Tensor:
        left = iter(sizes)
        first = next(left) if start == FROM_OPERAND else start
        last = next(left) if stop == FROM_OPERAND else stop
        picked: list[Any] = [slice(None)] * x.dim()
        picked[dim] = slice(first, last, step)
        return x[tuple(picked)]

    return run


def _bounds(args: Args) -> int:
    return [args["start"], args["stop"]].count(FROM_OPERAND)


def _pad(args: Args, zero: int) -> Function:
    sides, mode = args["sides"], args["mode"]

    def run(x: Tensor, *sizes: int) -> Tensor:
        amounts = filled(sides, sizes)
        if mode == "constant":
            return F.pad(x, amounts, value=zero)
        if x.is_floating_point():
            return F.pad(x, amounts, mode=mode)
        return F.pad(x.float(), amounts, mode=mode).to(x.dtype)

    return run


def _pad_flaw(args: Args) -> str | None:
    return "pads half a dimension" if len(args["sides"]) % 2 else None


def _resize_nearest(args: Args) -> Function:
    mode = args["mode"]

    def run(x: Tensor, *sizes: int) -> Tensor:
        return F.interpolate(x, *resizing(args, x.dim() - 2, sizes), mode=mode)

    return run


def resizing(
    args: Args, dims: int, sizes: tuple[int, ...]
) -> tuple[list[int] | None, list[float] | None]:
    """Returns size and factor by dimension; a single one stands for all."""
    size, scale = args["size"], args["scale"]
    if size is None:
        return None, scale * dims if len(scale) == 1 else scale
    full = filled(size, sizes)
    return full * dims if len(full) == 1 else full, None


def resized(args: Args) -> int:
    """Returns how many sizes come as operands."""
    return 0 if args["size"] is None else missing(args["size"])


def resize_flaw(args: Args) -> str | None:
    """Returns what is wrong with a size and a factor."""
    return "needs a size or a factor" if (args["size"] is None) == (args["scale"] is None) else None


def _chunk(args: Args) -> Function:
    chunks, dim, index = args["chunks"], args["dim"], args["index"]
    return lambda x: x.chunk(chunks, dim)[index]


def _chunk_flaw(args: Args) -> str | None:
    return None if args["index"] < args["chunks"] else "index beyond the chunks"


def _take(args: Args) -> Function:
    before = (slice(None),) * args["dim"]
    return lambda x, index: x[(*before, index)]


def _roll(args: Args) -> Function:
    shifts, dims = args["shifts"], args["dims"]
    return lambda x: x.roll(shifts, dims)


def _roll_flaw(args: Args) -> str | None:
    return None if len(args["shifts"]) == len(args["dims"]) else "shifts do not match dims"


def _unsqueeze_to_rank(args: Args) -> Function:
    rank, dim = args["rank"], args["dim"]

    def run(x: Tensor) -> Tensor:
        if x.dim() not in (rank - 1, rank):
            raise ValueError(f"takes {rank - 1} or {rank} dimensions, not {x.dim()}")
        return x.unsqueeze(dim) if x.dim() == rank - 1 else x

    return run


def _squeeze_to_rank(args: Args) -> Function:
    rank, dim = args["rank"], args["dim"]
    return lambda x, before: x.squeeze(dim) if before == rank - 1 else x


def _patch_merging(args: Args, zero: int) -> Function:
    def run(x: Tensor) -> Tensor:
        height, width = x.shape[-3:-1]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2), value=zero)
        corners = [x[..., row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        return torch.cat(corners, -1)

    return run


RESIZING: dict[str, checks.Check] = {
    "size": checks.optional(checks.list_of(checks.optional(checks.integer(1, 2**14)), 3)),
    "scale": checks.optional(checks.list_of(lambda v: checks.is_positive(v) and v <= 64, 3)),
}
_COUNT = checks.integer(0, 2**10)
_AMOUNT = checks.integer(-(2**10), 2**10)
_BOUND = checks.integer(-(2**30), 2**30)


def _is_bound(value: Any) -> bool:
    return value is None or value == FROM_OPERAND or _BOUND(value)


MOVEMENT: dict[str, Kind] = {
    "cat": Kind(
        lambda a: lambda *xs: torch.cat(xs, a["dim"]), {"dim": DIM}, (1, 1024), result="same"
    ),
    "stack": Kind(
        lambda a: lambda *xs: torch.stack(xs, a["dim"]), {"dim": DIM}, (1, 1024), result="same"
    ),
    "chunk": Kind(
        _chunk,
        {"chunks": checks.integer(1), "dim": DIM, "index": checks.integer(0)},
        result="same",
        flaw=_chunk_flaw,
    ),
    "slice": Kind(
        _slice,
        {"dim": DIM, "start": _is_bound, "stop": _is_bound, "step": checks.integer(1)},
        sizes=_bounds,
        result="same",
    ),
    "select": _moving(lambda a: lambda x: x.select(a["dim"], a["index"]), dim=DIM, index=_AMOUNT),
    "take": Kind(_take, {"dim": checks.integer(0, 7)}, (2, 2), result="same", indexed=True),
    "channel_shuffle": _moving(
        lambda a: lambda x: F.channel_shuffle(x, a["groups"]), groups=checks.integer(1)
    ),
    "pixel_shuffle": _moving(
        lambda a: lambda x: F.pixel_shuffle(x, a["factor"]), factor=checks.integer(1)
    ),
    "pixel_unshuffle": _moving(
        lambda a: lambda x: F.pixel_unshuffle(x, a["factor"]), factor=checks.integer(1)
    ),
    "flatten": _moving(lambda a: lambda x: x.flatten(a["start"], a["end"]), start=DIM, end=DIM),
    "reshape": Kind(_reshape, {"shape": SIZES}, sizes=lambda a: missing(a["shape"]), result="same"),
    "expand": Kind(_expand, {"shape": SIZES}, sizes=lambda a: missing(a["shape"]), result="same"),
    "repeat": Kind(
        _repeat,
        {"counts": checks.list_of(checks.optional(_COUNT))},
        sizes=lambda a: missing(a["counts"]),
        result="same",
    ),
    "repeat_interleave": _moving(
        lambda a: lambda x: x.repeat_interleave(a["count"], a["dim"]),
        count=_COUNT,
        dim=DIM,
    ),
    "permute": _moving(lambda a: lambda x: x.permute(a["dims"]), dims=DIMS),
    "transpose": _moving(
        lambda a: lambda x: x.transpose(*a["dims"]), dims=checks.integers(2, -8, 7)
    ),
    "squeeze": _moving(lambda a: lambda x: x.squeeze(a["dims"]), dims=DIMS),
    "unsqueeze": _moving(lambda a: lambda x: x.unsqueeze(a["dim"]), dim=DIM),
    "unsqueeze_to_rank": _moving(_unsqueeze_to_rank, rank=checks.integer(1, 8), dim=DIM),
    "squeeze_to_rank": Kind(
        _squeeze_to_rank,
        {"rank": checks.integer(1, 8), "dim": DIM},
        sizes=lambda a: 1,
        result="same",
    ),
    "flip": _moving(lambda a: lambda x: x.flip(a["dims"]), dims=DIMS),
    "roll": Kind(
        _roll, {"shifts": checks.list_of(_AMOUNT), "dims": DIMS}, result="same", flaw=_roll_flaw
    ),
    "pad": Kind(
        _pad,
        {
            "sides": checks.list_of(checks.optional(_AMOUNT), 16),
            "mode": checks.one_of("constant", "reflect", "replicate", "circular"),
        },
        sizes=lambda a: missing(a["sides"]),
        result="same",
        pads=True,
        flaw=_pad_flaw,
    ),
    "resize_nearest": Kind(
        _resize_nearest,
        {
            **RESIZING,
            "mode": checks.one_of("nearest", "nearest-exact"),
        },
        sizes=resized,
        result="same",
        flaw=resize_flaw,
    ),
    "patch_merging": Kind(_patch_merging, result="same", pads=True),
}
