"""Attention, and the windows in which Swin transformers apply it, in float32."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.kinds import checks
from torchcompress.quantization.kinds.checks import is_bool
from torchcompress.quantization.kinds.kind import Args, Function, Kind, filled, missing

_MASKED = -100.0
"""What Swin adds where tokens of a window come from different regions."""


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def _per_batch(bias: Tensor | None, batch: int) -> Tensor | None:
    """Returns a bias with a row for each batch entry: windows repeat image by image."""
    if bias is None or bias.dim() < 4 or bias.shape[0] in (1, batch):
        return bias
    return bias.repeat(batch // bias.shape[0], 1, 1, 1)


def _attention(args: Args) -> Function:
    heads, scale = args["heads"], args["scale"]

    def run(q: Tensor, k: Tensor, v: Tensor, *bias: Tensor) -> Tensor:
        mask = _per_batch(bias[0] if bias else None, q.shape[0])
        q, k, v = (_split_heads(x, heads) for x in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        return y.transpose(-3, -2).flatten(-2)

    return run


def _scaled_dot_product_attention(args: Args) -> Function:
    scale, causal = args["scale"], args["causal"]

    def run(q: Tensor, k: Tensor, v: Tensor, *mask: Tensor) -> Tensor:
        bias = mask[0] if mask else None
        return F.scaled_dot_product_attention(q, k, v, bias, is_causal=causal, scale=scale)

    return run


def _cosine_attention(args: Args) -> Function:
    heads = args["heads"]

    def run(q: Tensor, k: Tensor, v: Tensor, gain: Tensor, *bias: Tensor) -> Tensor:
        mask = _per_batch(bias[0] if bias else None, q.shape[0])
        q, k, v = (_split_heads(x, heads) for x in (q, k, v))
        q, k = F.normalize(q, dim=-1) * gain, F.normalize(k, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)
        return y.transpose(-3, -2).flatten(-2)

    return run


class _Windows:
    """How a map is cut into windows, for one map size.

    Args:
        args: `window` and `shift` by dimension; `fit` lets a window shrink to the map.
        sizes: Of the map.
    """

    def __init__(self, args: Args, sizes: Sequence[int]) -> None:
        given = list(zip(args["window"], args["shift"], sizes, strict=True))
        self.window = [min(w, s) if args["fit"] else w for w, _, s in given]
        self.shift = [0 if s <= w else shift for w, shift, s in given]
        self.sizes = list(sizes)
        self.counts = [-(-s // w) for w, s in zip(self.window, sizes, strict=True)]
        self.padded = [n * w for n, w in zip(self.counts, self.window, strict=True)]
        self.dims = list(range(1, len(self.sizes) + 1))

    def cut(self, x: Tensor, zero: int = 0) -> Tensor:
        """Returns `[batch * windows, tokens, channels]` of `[batch, *sizes, channels]`."""
        sides = [n for p, s in zip(self.padded, self.sizes, strict=True) for n in (p - s, 0)]
        x = F.pad(x, [0, 0, *sides[::-1]], value=zero) if any(sides) else x
        x = x.roll([-s for s in self.shift], self.dims) if any(self.shift) else x
        pairs = [n for pair in zip(self.counts, self.window, strict=True) for n in pair]
        x = x.reshape(x.shape[0], *pairs, x.shape[-1])
        inner = [2 * d for d in self.dims]
        order = [0, *(d - 1 for d in inner), *inner, x.dim() - 1]
        return x.permute(order).reshape(-1, math.prod(self.window), x.shape[-1])

    def join(self, x: Tensor) -> Tensor:
        """Returns what `cut` was given."""
        rank = len(self.sizes)
        x = x.reshape(-1, *self.counts, *self.window, x.shape[-1])
        order = [0, *(d + side for d in self.dims for side in (0, rank)), 2 * rank + 1]
        x = x.permute(order).reshape(x.shape[0], *self.padded, x.shape[-1])
        x = x.roll(self.shift, self.dims) if any(self.shift) else x
        return x[tuple(slice(s) for s in (x.shape[0], *self.sizes))].contiguous()

    def mask(self, like: Tensor) -> Tensor:
        """Returns what to add to the attention: `[windows, 1, tokens, tokens]`."""
        regions = like.new_zeros(self.padded)
        for dim, (size, window, shift) in enumerate(
            zip(self.padded, self.window, self.shift, strict=True)
        ):
            place = torch.arange(size, device=like.device)
            # A shift of 0 cuts like torchvision's slices: all but the last window, and the rest.
            region = (place >= size - window).to(like.dtype) + (place >= size - shift)
            shape = [-1 if d == dim else 1 for d in range(len(self.sizes))]
            regions = regions * 3 + region.view(shape)
        tokens = self.cut_regions(regions)
        apart = tokens.unsqueeze(1) != tokens.unsqueeze(2)
        return apart.to(like.dtype).mul(_MASKED).unsqueeze(1)

    def cut_regions(self, regions: Tensor) -> Tensor:
        """Returns the regions of the padded and shifted map by window."""
        pairs = [n for pair in zip(self.counts, self.window, strict=True) for n in pair]
        inner = [2 * d - 1 for d in self.dims]
        order = [*(d - 1 for d in inner), *inner]
        return regions.reshape(pairs).permute(order).reshape(-1, math.prod(self.window))


def _window_partition(args: Args, zero: int) -> Function:
    return lambda x: _Windows(args, x.shape[1:-1]).cut(x, zero)


def _window_merge(args: Args) -> Function:
    return lambda x, *sizes: _Windows(args, sizes).join(x)


def _window_mask(args: Args) -> Function:
    def run(bias: Tensor, *sizes: int) -> Tensor:
        windows = _Windows(args, sizes)
        return bias + windows.mask(bias) if any(windows.shift) else bias

    return run


def _window_bias(args: Args) -> Function:
    def run(table: Tensor, index: Tensor, *sizes: int) -> Tensor:
        window = _Windows(args, sizes).window if sizes else args["window"]
        tokens = math.prod(window)
        picked = index if index.dim() == 1 else index[:tokens, :tokens].flatten()
        return table[picked].view(tokens, tokens, -1).permute(2, 0, 1).unsqueeze(0)

    return run


def _relative_rows(rows: Tensor, queries: int, keys: int) -> Tensor:
    """Returns the embedding of each distance: `[queries, keys, channels]`."""
    wanted = 2 * max(queries, keys) - 1
    if len(rows) != wanted:
        rows = F.interpolate(rows.T.unsqueeze(0), size=wanted, mode="linear").squeeze(0).T
    q = torch.arange(queries, device=rows.device)[:, None] * max(keys / queries, 1.0)
    k = torch.arange(keys, device=rows.device)[None, :] + (1.0 - keys)
    return rows[(q - k * max(queries / keys, 1.0)).long()]


def _relative_positions(args: Args) -> Function:
    """MViTv2's decomposed bias; the class token comes first and has none."""

    def run(q: Tensor, height: Tensor, width: Tensor, time: Tensor, *given: int) -> Tensor:
        sizes = filled(args["sizes"], given)
        mine, other = sizes[:3], sizes[3:]
        tables = [
            _relative_rows(rows, *pair)
            for rows, pair in zip((time, height, width), zip(mine, other, strict=True), strict=True)
        ]
        q = q[:, :, 1:].unflatten(2, mine)
        t = torch.einsum("bnthwc,tkc->bnthwk", q, tables[0])[..., :, None, None]
        h = torch.einsum("bnthwc,hkc->bnthwk", q, tables[1])[..., None, :, None]
        w = torch.einsum("bnthwc,wkc->bnthwk", q, tables[2])[..., None, None, :]
        bias = (h + w + t).flatten(5).flatten(2, 4)
        return F.pad(bias, (1, 0, 1, 0))

    return run


_SCALE = checks.optional(checks.is_positive)
_HEADS = {"heads": checks.integer(1)}
_WINDOWS: dict[str, checks.Check] = {
    "window": checks.list_of(checks.integer(1, 2**10), 3),
    "shift": checks.list_of(checks.integer(0, 2**10), 3),
    "fit": is_bool,
}


def _windows_flaw(args: Args) -> str | None:
    if len(args["window"]) != len(args["shift"]):
        return "a window and a shift of different dimensions"
    fits = all(s < w for w, s in zip(args["window"], args["shift"], strict=True))
    return None if fits else "a shift of a whole window"


def _count(args: Args) -> int:
    return len(args["window"])


ATTENTION: dict[str, Kind] = {
    "attention": Kind(_attention, {**_HEADS, "scale": _SCALE}, (3, 4)),
    "cosine_attention": Kind(_cosine_attention, _HEADS, (4, 5)),
    "scaled_dot_product_attention": Kind(
        _scaled_dot_product_attention, {"scale": _SCALE, "causal": is_bool}, (3, 4)
    ),
    "window_partition": Kind(
        _window_partition, _WINDOWS, result="same", pads=True, flaw=_windows_flaw
    ),
    "window_merge": Kind(_window_merge, _WINDOWS, sizes=_count, result="same", flaw=_windows_flaw),
    "window_mask": Kind(_window_mask, _WINDOWS, sizes=_count, flaw=_windows_flaw),
    "window_bias": Kind(
        _window_bias,
        _WINDOWS,
        (2, 2),
        sizes=lambda a: len(a["window"]) if a["fit"] else 0,
        indexed=True,
        flaw=_windows_flaw,
    ),
    "relative_positions": Kind(
        _relative_positions,
        {"sizes": lambda v: checks.SIZES(v) and len(v) == 6},
        (4, 4),
        sizes=lambda a: missing(a["sizes"]),
    ),
}
