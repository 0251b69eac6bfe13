"""Rules for operations that look at all of a tensor, or at all of one dimension, at once."""

from typing import Any

from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.meeting import freeze_all, freeze_dims, set_results
from torchcompress.graph.rules.registry import Args, Context, Kwargs, Rule, argument, rule

WHOLE = {
    "is read by {}, whose result is no channel": (
        "aten.nonzero", "aten.nonzero_static", "aten.unique_dim", "aten._unique2", "aten._unique",
        "aten.unique_consecutive", "aten.masked_select", "aten.masked_scatter", "aten.take",
        "aten.put", "aten.histc", "aten.histogram", "aten.bincount", "aten.bucketize",
        "aten.searchsorted", "aten.multinomial", "aten.isin", "aten.equal",
        "aten.repeat_interleave", "aten.block_diag", "aten.diagonal_scatter", "aten.renorm",
        "aten.embedding_renorm", "aten._trilinear", "aten._pdist_forward",
        "aten.fractional_max_pool2d", "aten.fractional_max_pool3d", "torchvision.nms",
        "torchvision.ps_roi_align", "torchvision.ps_roi_pool",
    ),
    "is read as a number by the code, through {}": ("aten._local_scalar_dense", "aten.is_nonzero"),
    "is drawn from by {}": ("aten.bernoulli", "aten.normal", "aten.poisson", "aten.binomial"),
    "is read by the recurrent layer {}": (
        "aten.mkldnn_rnn_layer", "aten._cudnn_rnn", "aten.miopen_rnn", "aten._thnn_fused_lstm_cell",
        "aten._thnn_fused_gru_cell",
    ),
    "is read or made by {}, as complex numbers": (
        "aten.complex", "aten.polar", "aten.view_as_complex", "aten.view_as_real", "aten._fft_r2c",
        "aten._fft_c2c", "aten._fft_c2r",
    ),
    "is read by the decomposition {}": (
        "aten.linalg_inv_ex", "aten._linalg_det", "aten._linalg_slogdet", "aten._linalg_svd",
        "aten._linalg_eigh", "aten.linalg_eig", "aten.linalg_qr", "aten.linalg_cholesky_ex",
        "aten.linalg_lu", "aten.linalg_lu_factor_ex", "aten._linalg_solve_ex", "aten.linalg_lstsq",
        "aten.linalg_solve_triangular", "aten.triangular_solve", "aten._linalg_check_errors",
        "aten.linalg_matrix_exp", "aten.linalg_pinv", "aten.cholesky_inverse",
        "aten.cholesky_solve", "aten.linalg_eigvals", "aten.linalg_householder_product",
    ),
    "is read by the loss {}": (
        "aten.mse_loss", "aten.smooth_l1_loss", "aten.huber_loss", "aten.binary_cross_entropy",
        "aten.soft_margin_loss", "aten.multi_margin_loss", "aten.multilabel_margin_loss_forward",
        "aten.nll_loss_forward", "aten.nll_loss2d_forward", "aten._ctc_loss",
    ),
}  # fmt: skip
"""Operations that freeze all that they read, by the reason."""

ALONG = {
    "aten.sort": 1,
    "aten.argsort": 1,
    "aten.topk": 2,
    "aten.kthvalue": 2,
    "aten.mode": 1,
    "aten.cummax": 1,
    "aten.cummin": 1,
}
"""Operations along one dimension, which must stay, and where it stands among the arguments."""


def _freezing(reason: str) -> Rule:
    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
        freeze_all(ctx, (args, kwargs), reason)
        set_results(ctx, out, Labels(()))

    return apply


def _along(operation: str, position: int) -> Rule:
    name = operation.removeprefix("aten.")

    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
        labels, first = ctx.labels(args[0]), out[0] if isinstance(out, tuple) else out
        rank = len(labels.dims)
        reduced = set[int]()
        if rank:
            reduced = {argument(args, kwargs, position, "dim", -1) % rank}
        freeze_dims(ctx, args[0], reduced, f"is the dimension of {name}")
        kept = enumerate(labels.dims)
        if first.dim() == rank:
            dims = tuple(None if dim in reduced else vector for dim, vector in kept)
        else:
            dims = tuple(vector for dim, vector in kept if dim not in reduced)
        set_results(ctx, out, Labels(dims))

    return apply


for _reason, _operations in WHOLE.items():
    for _operation in _operations:
        rule(_operation)(_freezing(_reason.format(_operation.removeprefix("aten."))))
for _operation, _position in ALONG.items():
    rule(_operation)(_along(_operation, _position))
