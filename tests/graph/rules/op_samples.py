"""One call of every operation that has a rule, for the tests that hold for all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """A call and the shapes of its labelled operands.

    Attributes:
        call: The operation.
        shapes: Shapes of the operands.
        fixed: The call itself names a size, so that it does not run on fewer indices.
    """

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ((2, 6, 4, 5),)
    fixed: bool = False


def _index(*values: int) -> Tensor:
    return torch.tensor(values)


_IMAGE = (2, 6, 4, 5)
_TWO = (_IMAGE, _IMAGE)
_ROW = ((6,),)
_BOXES = torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0], [1.0, 1.0, 1.0, 4.0, 3.0]])


def _written(x: Tensor, write: Callable[[Tensor], object]) -> Tensor:
    copy = x.clone()
    write(copy)
    return copy


def _into_zeros(x: Tensor, write: Callable[[Tensor], object]) -> Tensor:
    zeros = torch.zeros(x.shape)
    write(zeros)
    return zeros


UNARY = {
    name: Sample(getattr(torch, name))
    for name in ("abs", "acos", "acosh", "angle", "asin", "asinh", "atan", "atanh", "ceil",
                 "conj_physical", "cos", "cosh", "deg2rad", "digamma", "erf", "erfc", "erfinv",
                 "exp", "exp2", "expm1", "floor", "frac", "frexp", "i0", "isfinite", "isinf",
                 "isnan", "isneginf", "lgamma", "log", "log10", "log1p", "log2", "logical_not",
                 "logit", "nan_to_num", "neg", "positive", "rad2deg", "reciprocal", "round",
                 "rsqrt", "sgn", "sigmoid", "sign", "signbit", "sin", "sinc", "sinh", "sqrt",
                 "square", "tan", "tanh", "trunc", "clone", "detach")
}  # fmt: skip
UNARY |= {
    name: Sample(getattr(torch.special, name)) for name in ("entr", "ndtri", "erfcx", "bessel_j0")
}

ACTIVATIONS = {
    name: Sample(getattr(F, name))
    for name in ("relu", "relu6", "elu", "selu", "celu", "leaky_relu", "gelu", "silu", "mish",
                 "hardswish", "hardsigmoid", "hardtanh", "hardshrink", "softshrink", "tanhshrink",
                 "softplus", "softsign", "logsigmoid", "rrelu")
}  # fmt: skip

BINARY = {
    name: Sample(getattr(torch, name), _TWO)
    for name in ("add", "sub", "mul", "div", "atan2", "copysign", "eq", "ne", "lt", "le", "gt",
                 "ge", "float_power", "floor_divide", "fmax", "fmin", "fmod", "heaviside", "hypot",
                 "ldexp", "logaddexp", "logical_and", "logical_or", "logical_xor", "maximum",
                 "minimum", "nextafter", "pow", "remainder", "rsub", "xlogy", "max", "min")
}  # fmt: skip

POINTWISE = {
    "lerp": Sample(torch.lerp, (*_TWO, _IMAGE)),
    "addcmul": Sample(torch.addcmul, (*_TWO, _IMAGE)),
    "addcdiv": Sample(torch.addcdiv, (*_TWO, _IMAGE)),
    "clamp_scalar": Sample(lambda x: x.clamp(0.2, 0.6)),
    "clamp_tensors": Sample(torch.clamp, (*_TWO, _IMAGE)),
    "where": Sample(lambda x, y: torch.where(x > 0.5, x, y), _TWO),
    "masked_fill": Sample(lambda x, y: x.masked_fill(y > 0.5, 0.0), _TWO),
    "bitwise": Sample(lambda x, y: (x > 0.5) & ~(y > 0.5), _TWO),
    "broadcast": Sample(lambda x, y: x * y[:, None, None], (_IMAGE, (6,))),
    "expanded": Sample(lambda x, y: x * y[:, :1].expand_as(x), _TWO),
    "in_place": Sample(lambda x, y: x.clone().mul_(y), _TWO),
    "out": Sample(lambda x, y: torch.add(x, y, out=torch.empty_like(x)), _TWO),
    "neutral_first": Sample(lambda x: torch.zeros_like(x) + x),
    "neutral_part": Sample(lambda x: _into_zeros(x, lambda z: z[:, :2].fill_(1.0)) * x),
    "one_channel_of_zeros": Sample(
        lambda x: _into_zeros(x[:1, :, :1, :1], lambda z: z[:, 0].fill_(1.0)) * x
    ),
    "glu": Sample(lambda x: F.glu(x, 1)),
    "prelu": Sample(F.prelu, (_IMAGE, (6,))),
    "cross": Sample(lambda x, y: torch.linalg.cross(x, y, dim=1), ((2, 3, 4), (2, 3, 4))),
    "cast": Sample(lambda x: x.double().half().float()),
    "dropout_off": Sample(lambda x: F.dropout(x, 0.5, False)),
    "lp_pool": Sample(lambda x: F.lp_pool2d(x, 2.0, 2)),
}

MOVEMENT = {
    "view": Sample(lambda x: x.reshape(x.shape[0], x.shape[1], -1)),
    "flatten": Sample(lambda x: x.flatten(1)),
    "heads": Sample(lambda x: x.reshape(x.shape[0], 2, -1, *x.shape[2:])),
    "permute": Sample(lambda x: x.permute(0, 2, 3, 1)),
    "movedim": Sample(lambda x: x.movedim(1, -1)),
    "transpose": Sample(lambda x: x.mT),
    "narrow": Sample(lambda x: x.narrow(1, 1, 3), fixed=True),
    "select": Sample(lambda x: x.select(1, 2)),
    "slice": Sample(lambda x: x[:, 1::2], fixed=True),
    "roll": Sample(lambda x: x.roll(1, 2)),
    "roll_flat": Sample(lambda x: x.roll(1)),
    "roll_two": Sample(lambda x: x.roll((1, 2), (2, 3))),
    "flip": Sample(lambda x: x.flip(1, 2)),
    "rot90": Sample(lambda x: x.rot90(1, (2, 3))),
    "rot90_channels": Sample(lambda x: x.rot90(3, (1, 3))),
    "tile": Sample(lambda x: x.tile(1, 2, 1, 1)),
    "repeat": Sample(lambda x: x.repeat(2, 1, 1, 3)),
    "repeat_interleave": Sample(lambda x: x.repeat_interleave(2, 1)),
    "repeat_interleave_counts": Sample(
        lambda x: x.repeat_interleave(_index(1, 2, 1, 1, 1, 1), 1), fixed=True
    ),
    "expand": Sample(lambda x: x[None].expand(3, *x.shape)),
    "tril": Sample(torch.tril),
    "triu": Sample(lambda x: x.triu(1)),
    "diagonal": Sample(lambda x: x.diagonal(1, 1, 2)),
    "diag_embed": Sample(torch.diag_embed),
    "diag": Sample(torch.diag, _ROW),
    "unfold": Sample(lambda x: x.unfold(2, 2, 1)),
    "unfold_channels": Sample(lambda x: x.unfold(1, 2, 2)),
    "im2col": Sample(lambda x: F.unfold(x, 2, padding=1)),
    "col2im": Sample(lambda x: F.fold(x, (3, 4), 2), ((2, 12, 6),)),
    "pixel_shuffle": Sample(lambda x: F.pixel_shuffle(x, 2), ((2, 8, 3, 2),)),
    "pixel_unshuffle": Sample(lambda x: F.pixel_unshuffle(x, 2), ((2, 3, 4, 2),)),
    "channel_shuffle": Sample(lambda x: F.channel_shuffle(x, 2)),
    "chunk": Sample(lambda x: x.chunk(2, 1)),
    "chunk_and_mix": Sample(lambda x: torch.mul(*x.chunk(2, 1))),
    "tensor_split": Sample(lambda x: x.tensor_split((2,), 1), fixed=True),
    "unbind": Sample(lambda x: x.unbind(1)),
    "hsplit": Sample(lambda x: x.hsplit(2), fixed=True),
    "dstack": Sample(lambda x, y: torch.dstack([x, y]), _TWO),
    "cat": Sample(lambda x, y: torch.cat([x, y], 1), _TWO),
    "cat_with_zeros": Sample(lambda x: torch.cat([x, torch.zeros(x.shape[0], 2, *x.shape[2:])], 1)),
    "stack": Sample(lambda x, y: torch.stack([x, y], 1), _TWO),
    "pad": Sample(lambda x: F.pad(x, (1, 2, 0, 1, 1, 0))),
    "pad_circular": Sample(lambda x: F.pad(x, (1, 1, 1, 1), mode="circular")),
    "meshgrid": Sample(lambda x, y: torch.meshgrid(x, y, indexing="ij"), ((6,), (5,)), fixed=True),
    "copy_into_slice": Sample(
        lambda x: _into_zeros(x, lambda z: z[:, :, 1:3].copy_(x[:, :, :2])), fixed=True
    ),
    "copy_into_channels": Sample(
        lambda x: _into_zeros(x, lambda z: z[:, :2].copy_(x[:, 2:4])), fixed=True
    ),
    "as_another_dtype": Sample(lambda x: x.view(torch.int32)),
}

INDEXING = {
    "index_select": Sample(lambda x: x.index_select(1, _index(2, 0))),
    "index": Sample(lambda x: x[:, _index(2, 0)]),
    "index_apart": Sample(lambda x: x[_index(1, 0), :, _index(2, 0)]),
    "index_grid": Sample(lambda x: x[:, :, _index(0, 1, 2, 3).view(2, 2)]),
    "index_mask": Sample(lambda x: x[torch.tensor([[True] * 6, [False] * 6])], fixed=True),
    "index_own_mask": Sample(lambda x: x[x.sum((1, 2, 3)) > 0]),
    "index_channels_by_mask": Sample(lambda x: x[:, torch.tensor([True] * 4 + [False] * 2)]),
    "index_put": Sample(
        lambda x, y: _written(x, lambda z: z.__setitem__(_index(1), y)), (_IMAGE, _IMAGE[1:])
    ),
    "index_put_between": Sample(
        lambda x, y: _written(
            x, lambda z: z.__setitem__((slice(None), slice(None), _index(1, 3)), y)
        ),
        (_IMAGE, (2, 6, 2, 5)),
    ),
    "index_put_apart": Sample(
        lambda x, y: _written(
            x, lambda z: z.__setitem__((_index(0, 1), slice(None), _index(1, 3)), y)
        ),
        (_IMAGE, (2, 6, 5)),
    ),
    "index_put_number": Sample(lambda x: _written(x, lambda z: z.__setitem__(_index(1), 0.0))),
    "index_put_zeros": Sample(
        lambda x: _into_zeros(x, lambda z: z.__setitem__(_index(1), x[0])), fixed=True
    ),
    "index_add": Sample(lambda x, y: x.index_add(2, _index(1, 3), y), (_IMAGE, (2, 6, 2, 5))),
    "index_copy": Sample(lambda x, y: x.index_copy(2, _index(1, 3), y), (_IMAGE, (2, 6, 2, 5))),
    "index_fill": Sample(lambda x: x.index_fill(1, _index(1, 3), 0.0)),
    "gather": Sample(lambda x: x.gather(1, torch.ones(x.shape, dtype=torch.long))),
    "gather_expanded": Sample(
        lambda x: x.gather(
            2, torch.ones(1, 1, 1, 1, dtype=torch.long).expand(*x.shape[:2], 3, x.shape[3])
        )
    ),
    "gather_fewer": Sample(lambda x: x.gather(1, torch.ones(1, 3, 2, 2, dtype=torch.long))),
    "gather_by_labelled": Sample(lambda x, y: x.gather(1, (y * 5).long()), _TWO),
    "scatter": Sample(lambda x, y: x.scatter(1, torch.ones(x.shape, dtype=torch.long), y), _TWO),
    "scatter_number": Sample(
        lambda x: x.scatter(1, torch.ones(x.shape[0], 3, *x.shape[2:], dtype=torch.long), 0.0)
    ),
    "scatter_add": Sample(
        lambda x, y: x.scatter_add(2, torch.ones(x.shape, dtype=torch.long), y), _TWO
    ),
    "scatter_reduce": Sample(
        lambda x, y: x.scatter_reduce(2, torch.ones(x.shape, dtype=torch.long), y, "amax"), _TWO
    ),
    "take_along_dim": Sample(lambda x: x.take_along_dim(_index(2, 0).view(1, 2, 1, 1), 1)),
    "select_scatter": Sample(lambda x, y: x.select_scatter(y, 2, 0), (_IMAGE, (2, 6, 5))),
    "slice_scatter": Sample(lambda x, y: x.slice_scatter(y, 2, 0, 2), (_IMAGE, (2, 6, 2, 5))),
    "take": Sample(lambda x: x.take(_index(3, 50))),
    "masked_select": Sample(lambda x: x.masked_select(x > 0.5)),
    "masked_scatter": Sample(lambda x, y: x.masked_scatter(x > 0.5, y), _TWO),
    "nonzero": Sample(torch.nonzero),
    "embedding": Sample(lambda w: F.embedding(_index(0, 2, 2), w), ((4, 6),)),
    "embedding_bag": Sample(lambda w: F.embedding_bag(_index(0, 2, 2, 1).view(2, 2), w), ((4, 6),)),
    "setitem_channel": Sample(
        lambda x: _written(x, lambda z: z.__setitem__((slice(None), 0), 0.0))
    ),
}

POSITIONS = {
    "max_pool1d": Sample(lambda x: F.max_pool1d(x, 2), ((2, 6, 4),)),
    "max_pool2d": Sample(lambda x: F.max_pool2d(x, 2, return_indices=True)),
    "max_pool3d": Sample(lambda x: F.max_pool3d(x, 2), ((2, 6, 4, 2, 2),)),
    "max_unpool2d": Sample(
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), [2, 2]), ((2, 6, 4, 4),)
    ),
    "avg_pool1d": Sample(lambda x: F.avg_pool1d(x, 2), ((2, 6, 4),)),
    "avg_pool2d": Sample(lambda x: F.avg_pool2d(x, 2)),
    "avg_pool3d": Sample(lambda x: F.avg_pool3d(x, 2), ((2, 6, 4, 2, 2),)),
    "adaptive_avg_pool1d": Sample(lambda x: F.adaptive_avg_pool1d(x, 2), ((2, 6, 4),)),
    "adaptive_avg_pool2d": Sample(lambda x: F.adaptive_avg_pool2d(x, 2)),
    "adaptive_avg_pool3d": Sample(lambda x: F.adaptive_avg_pool3d(x, 2), ((2, 6, 4, 3, 2),)),
    "adaptive_max_pool1d": Sample(lambda x: F.adaptive_max_pool1d(x, 2), ((2, 6, 4),)),
    "adaptive_max_pool2d": Sample(lambda x: F.adaptive_max_pool2d(x, 2)),
    "adaptive_max_pool3d": Sample(lambda x: F.adaptive_max_pool3d(x, 2), ((2, 6, 4, 3, 2),)),
    "nearest1d": Sample(lambda x: F.interpolate(x, scale_factor=2), ((2, 6, 4),)),
    "nearest2d": Sample(lambda x: F.interpolate(x, scale_factor=2)),
    "nearest_exact2d": Sample(lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact")),
    "nearest3d": Sample(lambda x: F.interpolate(x, scale_factor=2), ((2, 6, 2, 3, 2),)),
    "linear1d": Sample(lambda x: F.interpolate(x, scale_factor=2, mode="linear"), ((2, 6, 4),)),
    "bilinear2d": Sample(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "bilinear2d_aa": Sample(lambda x: F.interpolate(x, (2, 2), mode="bilinear", antialias=True)),
    "bicubic2d": Sample(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    "area": Sample(lambda x: F.interpolate(x, (2, 2), mode="area")),
    "trilinear3d": Sample(
        lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), ((2, 6, 2, 3, 2),)
    ),
    "reflect1d": Sample(lambda x: F.pad(x, (1, 1), mode="reflect"), ((2, 6, 4),)),
    "reflect2d": Sample(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "replicate3d": Sample(lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate")),
    "grid_sample": Sample(
        lambda x, g: F.grid_sample(x, g - 0.5, align_corners=False), (_IMAGE, (2, 3, 3, 2))
    ),
    "affine_grid": Sample(
        lambda t: F.affine_grid(t, [2, 3, 4, 4], align_corners=False), ((2, 2, 3),)
    ),
    "roi_align": Sample(lambda x: torchvision.ops.roi_align(x, _BOXES, 2)),
    "roi_pool": Sample(lambda x: torchvision.ops.roi_pool(x, _BOXES, 2)),
    "ps_roi_align": Sample(lambda x: torchvision.ops.ps_roi_align(x, _BOXES, 2), ((2, 8, 4, 5),)),
    "nms": Sample(lambda b, s: torchvision.ops.nms(b, s, 0.5), ((4, 4), (4,))),
}

CONTRACTIONS = {
    "conv1d": Sample(F.conv1d, ((2, 6, 5), (4, 6, 3), (4,))),
    "conv2d": Sample(F.conv2d, (_IMAGE, (4, 6, 3, 3), (4,))),
    "conv2d_groups": Sample(lambda x, w: F.conv2d(x, w, groups=2), (_IMAGE, (4, 3, 3, 3))),
    "conv2d_depthwise": Sample(
        lambda x, w: F.conv2d(x, w, groups=x.shape[1]), (_IMAGE, (6, 1, 3, 3))
    ),
    "conv3d": Sample(F.conv3d, ((2, 6, 3, 3, 3), (4, 6, 3, 3, 3))),
    "conv_transpose1d": Sample(F.conv_transpose1d, ((2, 6, 5), (6, 4, 3), (4,))),
    "conv_transpose2d_groups": Sample(
        lambda x, w: F.conv_transpose2d(x, w, groups=2), (_IMAGE, (6, 3, 3, 3))
    ),
    "deform_conv2d": Sample(
        torchvision.ops.deform_conv2d, (_IMAGE, (2, 8, 3, 4), (3, 6, 2, 2), (3,))
    ),
    "linear": Sample(F.linear, ((2, 3, 6), (4, 6), (4,))),
    "linear_row": Sample(F.linear, ((6,), (4, 6), (4,))),
    "matmul": Sample(torch.matmul, ((2, 3, 6), (2, 6, 4))),
    "matmul_broadcast": Sample(torch.matmul, ((2, 3, 6), (6, 4))),
    "mv": Sample(torch.mv, ((3, 6), (6,))),
    "addmv": Sample(torch.addmv, ((3,), (3, 6), (6,))),
    "dot": Sample(torch.dot, ((6,), (6,))),
    "outer": Sample(torch.outer, ((6,), (4,))),
    "addr": Sample(torch.addr, ((6, 4), (6,), (4,))),
    "addmm": Sample(torch.addmm, ((4,), (3, 6), (6, 4))),
    "baddbmm": Sample(torch.baddbmm, ((2, 3, 4), (2, 3, 6), (2, 6, 4))),
    "addbmm": Sample(torch.addbmm, ((3, 4), (2, 3, 6), (2, 6, 4))),
    "tensordot": Sample(lambda x, y: torch.tensordot(x, y, 2), (_IMAGE, (4, 5, 3))),
    "einsum": Sample(lambda x, y: torch.einsum("bchw,bdhw->bcd", x, y), (_IMAGE, (2, 3, 4, 5))),
    "einsum_weights": Sample(lambda x, y: torch.einsum("bchw,c->bhw", x, y), (_IMAGE, (6,))),
    "einsum_diagonal": Sample(lambda x: torch.einsum("bii->bi", x), ((2, 4, 4),)),
    "bilinear": Sample(F.bilinear, ((2, 6), (2, 5), (3, 6, 5))),
    "cdist": Sample(torch.cdist, ((2, 3, 6), (2, 4, 6))),
    "cdist_of_many": Sample(torch.cdist, ((2, 30, 6), (2, 30, 6))),
    "kron": Sample(torch.kron, ((6,), (4,))),
}

REDUCTIONS = {
    "sum": Sample(lambda x: x.sum(1)),
    "mean": Sample(lambda x: x.mean((2, 3), keepdim=True)),
    "amax": Sample(lambda x: x.amax(1)),
    "max": Sample(lambda x: x.max(1)),
    "var": Sample(lambda x: x.var(1)),
    "argmax": Sample(lambda x: x.argmax(1)),
    "norm": Sample(lambda x: x.norm(dim=1)),
    "softmax": Sample(lambda x: x.softmax(1)),
    "cumsum": Sample(lambda x: x.cumsum(1)),
    "layer_norm": Sample(lambda x: F.layer_norm(x, x.shape[-1:])),
    "group_norm": Sample(lambda x: F.group_norm(x, 2)),
    "instance_norm": Sample(F.instance_norm),
    "batch_norm": Sample(lambda x, m, v: F.batch_norm(x, m, v.abs() + 1.0), (_IMAGE, (6,), (6,))),
    "local_response_norm": Sample(lambda x: F.local_response_norm(x, 3)),
    "normalize": Sample(F.normalize),
    "cosine_similarity": Sample(F.cosine_similarity, _TWO),
}

WHOLE = {
    "sort": Sample(lambda x: x.sort(1)),
    "argsort": Sample(lambda x: x.argsort(1)),
    "topk": Sample(lambda x: x.topk(2, 1)),
    "kthvalue": Sample(lambda x: x.kthvalue(2, 1)),
    "mode": Sample(lambda x: x.mode(1)),
    "median": Sample(lambda x: x.median(1)),
    "median_of_all": Sample(torch.median),
    "cummax": Sample(lambda x: x.cummax(1)),
    "unique": Sample(torch.unique),
    "bincount": Sample(lambda x: (x * 4).long().bincount(), _ROW),
    "histc": Sample(torch.histc),
    "bucketize": Sample(torch.bucketize, (_IMAGE, (3,))),
    "isin": Sample(torch.isin, _TWO),
    "fft": Sample(lambda x: torch.fft.rfft2(x).abs()),
    "ifft": Sample(lambda x: torch.fft.irfft(torch.fft.rfft(x))),
    "complex": Sample(lambda x, y: torch.complex(x, y).abs(), _TWO),
    "view_as_complex": Sample(lambda x: torch.view_as_complex(x).real, ((4, 3, 2),)),
    "inverse": Sample(torch.linalg.inv, ((4, 4),)),
    "svd": Sample(torch.linalg.svd, ((4, 4),)),
    "block_diag": Sample(torch.block_diag, ((2, 3), (3, 2))),
    "mse_loss": Sample(F.mse_loss, _TWO),
    "item": Sample(lambda x: x * x[0, 1, 2, 3].item()),
    "condition": Sample(lambda x: x * 2 if bool(x[0, 1, 2, 3] > 0.5) else x),
}

SAMPLES: dict[str, Sample] = {
    **UNARY, **ACTIVATIONS, **BINARY, **POINTWISE, **MOVEMENT, **INDEXING, **POSITIONS,
    **CONTRACTIONS, **REDUCTIONS, **WHOLE,
}  # fmt: skip
