"""Pruned attention equals the original with heads, or dimensions inside each, zeroed by hand."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.video.mvit import MSBlockConfig, MViT
from torchvision.models.video.swin_transformer import SwinTransformer3d

import torchcompress as tc
from torchcompress.errors import CompressError
from torchcompress.pruning import attention, plan_channels
from torchcompress.pruning.adapters import adapt_modules

Options = dict[str, Any]

MHA: dict[str, Options] = {
    "packed": {},
    "batch_first": {"batch_first": True},
    "own_widths": {"kdim": 6, "vdim": 10},
    "no_bias": {"bias": False},
    "extra_keys": {"add_bias_kv": True, "add_zero_attn": True},
}
CALLS: dict[str, Options] = {
    "plain": {},
    "no_weights": {"need_weights": False},
    "each_head": {"average_attn_weights": False},
    "masked": {"attn_mask": torch.triu(torch.full((5, 7), -torch.inf), 3)},
    "causal": {"attn_mask": torch.triu(torch.ones(5, 7), 1).bool(), "is_causal": True},
    "padded": {"key_padding_mask": torch.arange(7).repeat(3, 1) > 4, "need_weights": False},
    "per_head": {"attn_mask": torch.rand(12, 5, 7) > 0.7},
}


def attention_inputs(options: Options) -> tuple[Tensor, ...]:
    widths = (8, options.get("kdim", 8), options.get("vdim", 8))
    shapes = [(n, 3, w) for n, w in zip((5, 7, 7), widths, strict=True)]
    tensors = (torch.randn(shape) for shape in shapes)
    return tuple(t.transpose(0, 1) if options.get("batch_first") else t for t in tensors)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", MHA)
def test_an_adapted_attention_computes_what_it_did(kind: str, call: str) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(8, 4, **MHA[kind]).eval()
    adapted = copy.deepcopy(plain)
    adapt_modules(adapted, ["out_proj.weight"])
    assert type(adapted) is attention.PrunedMultiheadAttention
    inputs = attention_inputs(MHA[kind])
    for left, right in zip(
        plain(*inputs, **CALLS[call]), adapted(*inputs, **CALLS[call]), strict=True
    ):
        assert (left is None) == (right is None)
        if left is not None:
            assert torch.allclose(left, right, atol=1e-6)


def test_an_adapted_attention_takes_one_sequence() -> None:
    plain = nn.MultiheadAttention(8, 4).eval()
    adapted = copy.deepcopy(plain)
    adapt_modules(adapted, ["in_proj_weight"])
    x = torch.randn(5, 8)
    for left, right in zip(plain(x, x, x), adapted(x, x, x), strict=True):
        assert left.shape == right.shape
        assert torch.allclose(left, right, atol=1e-6)


class SelfAttention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 3)
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + self.attention(x, x, x, **self.options)[0])


def zeroed_inner(model: SelfAttention, gone: list[int]) -> SelfAttention:
    """Returns a copy whose removed inner channels are zero in queries, keys and values."""
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.attention.in_proj_weight[gone] = 0
        zeroed.attention.in_proj_bias[gone] = 0
    return zeroed


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("part", ["heads", "head_dims"])
def test_a_removed_part_of_an_attention_is_as_if_zero(part: str, weights: bool) -> None:
    torch.manual_seed(0)
    model, x = SelfAttention(need_weights=weights).eval(), torch.randn(2, 5, 6)
    nn.init.normal_(model.attention.in_proj_weight)
    options: Options = {"exclude": ["embed"], "round_to": 1, "attention": part}
    plan = plan_channels(model, x, tc.Target(channels=0.5), **options)
    gone = plan.removed["attention.in_proj_weight"][0]
    assert len(gone) == 24
    heads = {index % 16 // 4 for index in gone}
    assert len(heads) == (2 if part == "heads" else 4)
    assert plan.inexact == {}  # Nobody reads the mean of the weights over the heads.
    pruned = plan.apply(model)
    expected = zeroed_inner(model, gone)(x)
    assert torch.allclose(pruned(x), expected, atol=1e-5 * float(expected.detach().abs().max()))


def test_the_parts_of_an_attention_are_named() -> None:
    with pytest.raises(CompressError, match="heads"):
        plan_channels(SelfAttention(), torch.randn(2, 5, 6), tc.Target(macs=0.5), attention="head")


def swin() -> nn.Module:
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5)


def swin_v2() -> nn.Module:
    return SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5,
        block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
    )  # fmt: skip


def swin_3d() -> nn.Module:
    return SwinTransformer3d([2, 4, 4], 16, [2, 2], [2, 4], [4, 4, 4], num_classes=5)


def maxvit() -> nn.Module:
    return MaxVit((32, 32), 16, 4, [16], [1], 4, 0.1, num_classes=5)


def vit() -> nn.Module:
    return VisionTransformer(16, 4, 2, 4, 32, 48, num_classes=5)


def mvit() -> nn.Module:
    kernels: Options = {"kernel_q": [3, 3, 3], "kernel_kv": [3, 3, 3], "stride_kv": [1, 2, 2]}
    blocks = [
        MSBlockConfig(
            num_heads=2, input_channels=8, output_channels=16, stride_q=[1, 2, 2], **kernels
        ),
        MSBlockConfig(
            num_heads=4, input_channels=16, output_channels=16, stride_q=[1, 1, 1], **kernels
        ),
    ]
    return MViT(
        (8, 8), 4, blocks, residual_pool=True, residual_with_cls_embed=False,
        rel_pos_embed=True, proj_after_attn=True, num_classes=5,
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vit": (vit, (2, 3, 16, 16)),
    "swin": (swin, (2, 3, 32, 28)),
    "swin_v2": (swin_v2, (2, 3, 32, 28)),
    "swin_3d": (swin_3d, (1, 3, 8, 32, 28)),
    "maxvit": (maxvit, (2, 3, 32, 32)),
    "mvit": (mvit, (1, 3, 4, 8, 8)),
}


SMALL_NETWORKS = {"swin_3d": 0.11, "mvit": 0.11}
"""Where tables of positions, whose rows stay, are a tenth of so small a network."""


@pytest.mark.parametrize("name", NETWORKS)
def test_adapted_networks_compute_what_they_did(name: str) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model, x = build().eval(), torch.randn(shape)
    adapted = copy.deepcopy(model)
    adapt_modules(adapted, dict(model.named_parameters()))
    if name != "mvit":
        assert any(module.__module__.startswith("torchcompress") for module in adapted.modules())
    expected = model(x).detach()
    assert torch.allclose(adapted(x), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("part", ["heads", "head_dims"])
@pytest.mark.parametrize("name", NETWORKS)
def test_nearly_everything_in_a_transformer_can_go(name: str, part: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model, x = build().eval(), torch.randn(shape)
    plan = plan_channels(model, x, tc.Target(channels=0.5), round_to=1, attention=part)
    assert plan.frozen_share < SMALL_NETWORKS.get(name, 0.05)
    assert not any("trial" in reason for reason in plan.frozen.values())
    assert plan.difference is not None
    assert plan.difference < 1e-5
    pruned = plan.apply(model)
    assert pruned(x).shape == model(x).shape
    pruned.train()(x).sum().backward()
    pruned.zero_grad()
    again = pickle.loads(pickle.dumps(copy.deepcopy(pruned))).eval()
    assert torch.equal(again(x), pruned.eval()(x))
    tc.save(pruned, tmp_path / "model.tcz")
    assert torch.equal(tc.load(tmp_path / "model.tcz", model=build())(x), pruned(x))
    more = plan_channels(pruned, x, tc.Target(macs=0.7), round_to=1, attention=part)
    assert more.difference is not None
    assert more.macs[1] <= 0.7 * more.macs[0]


def test_torchs_encoder_layer_does_not_read_the_sizes_past_the_forward_pass() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 3)
    ).eval()
    x = torch.randn(2, 5, 6)
    pruned = tc.prune_channels(model, x, tc.Target(channels=0.5), round_to=1)
    with torch.no_grad():
        fast = pruned(x)
    assert torch.allclose(fast, pruned(x), atol=1e-6)
    assert fast.shape == (2, 5, 3)


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_calibration_brings_a_pruned_transformer_closer(name: str) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model = build().eval()
    if isinstance(model, VisionTransformer):
        nn.init.normal_(model.heads.get_parameter("head.weight"))  # Zero in a fresh one.
    batches = [torch.randn(4, *shape[1:]) for _ in range(4)]
    x, target = torch.cat(batches), tc.Target(channels=0.75)
    plain = tc.prune_channels(model, batches[0], target, round_to=1)
    fitted = tc.prune_channels(
        model, batches[0], target, round_to=1, importance="magnitude", calibration=batches
    )
    with torch.no_grad():
        assert (fitted(x) - model(x)).norm() < 0.9 * (plain(x) - model(x)).norm()


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x), src_key_padding_mask=padding))


def test_torchs_encoder_does_not_pack_padded_sequences_for_a_pruned_attention() -> None:
    torch.manual_seed(0)
    model, x = Padded().eval(), torch.randn(2, 5, 6)
    padding = torch.tensor([[False, False, False, True, True], [False] * 5])
    pruned = tc.prune_channels(model, (x, padding), tc.Target(channels=0.5), round_to=1)
    with torch.no_grad():
        fast = pruned(x, padding)
    assert torch.allclose(fast[~padding], pruned(x, padding)[~padding], atol=1e-6)


class Translating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.transformer = nn.Transformer(16, 4, 1, 1, 24, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        mixed = self.transformer(self.embed(source), self.embed(target), tgt_mask=mask)
        return self.head(mixed)


def test_torchs_transformer_loses_its_width() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6), torch.randn(2, 7, 6)
    plan = plan_channels(Translating().eval(), x, tc.Target(channels=0.5), round_to=1)
    assert plan.mends["transformer"] == {"d_model": 8}
    assert plan.frozen_share < 0.01
    assert not any("trial" in reason for reason in plan.frozen.values())


def test_a_pruned_transformer_exports() -> None:
    torch.manual_seed(0)
    model, x = vit().eval(), torch.randn(2, 3, 16, 16)
    pruned = tc.prune_channels(model, x, tc.Target(channels=0.5), round_to=1)
    exported = torch.export.export(pruned, (x,))
    assert torch.allclose(exported.module()(x), pruned(x), atol=1e-5)
