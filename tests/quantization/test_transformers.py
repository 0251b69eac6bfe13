"""Vision transformers: the program equals the model at other batch and image sizes too."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import (
    PatchMerging,
    PatchMergingV2,
    SwinTransformerBlock,
    SwinTransformerBlockV2,
)
from torchvision.models.video import SwinTransformer3d

from torchcompress.core.errors import CalibrationError, UnsupportedError
from torchcompress.quantization import Int8Model, interpreter, quantize
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.sqnr import sqnr
from torchcompress.quantization.trace import trace


def vit() -> nn.Module:
    model = VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=5)
    nn.init.normal_(model.heads[0].weight)  # pyright: ignore
    return model


def swin(v2: bool = False) -> nn.Module:
    """Blocks on maps larger, smaller and no multiple of the window."""
    return SwinTransformer(
        [4, 4],
        16,
        [2, 2],
        [2, 2],
        [4, 4],
        num_classes=5,
        block=SwinTransformerBlockV2 if v2 else SwinTransformerBlock,
        downsample_layer=PatchMergingV2 if v2 else PatchMerging,
    )


def swin3d() -> nn.Module:
    return SwinTransformer3d([2, 4, 4], 16, [2, 2], [2, 2], [2, 4, 4], num_classes=5)


def lively(model: nn.Module) -> nn.Module:
    """Gives parameters that start as zeros, such as a bias, values that could be lost."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


MODELS: list[tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = [
    (vit, [(2, 3, 32, 32), (1, 3, 32, 32)]),
    (swin, [(2, 3, 32, 32), (1, 3, 40, 52), (3, 3, 12, 36)]),
    (lambda: swin(v2=True), [(2, 3, 32, 32), (1, 3, 40, 52)]),
    (swin3d, [(1, 3, 8, 32, 32), (2, 3, 3, 40, 12)]),
]


@pytest.mark.parametrize(("make", "shapes"), MODELS)
def test_the_program_equals_the_model(
    make: Callable[[], nn.Module], shapes: list[tuple[int, ...]]
) -> None:
    model = lively(make())
    program, sources = trace(model)
    tensors = folded_tensors(sources, model.state_dict())
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            want, got = model(x), interpreter.run(program, tensors, [x])
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize(("make", "shapes"), MODELS)
def test_int8(make: Callable[[], nn.Module], shapes: list[tuple[int, ...]]) -> None:
    model = lively(make())
    x = torch.randn(4, *shapes[0][1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*concatenated branches", UserWarning)
        quantized = quantize(model, [x])
    kinds = Counter(row.kind for row in quantized.table() if row.precision == "int8")
    linears = sum(isinstance(m, nn.Linear) for m in model.modules())
    attentions = sum(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    positions = sum(hasattr(m, "cpb_mlp") for m in model.modules())
    # The input projection of an attention is no module, its output projection is a Linear.
    assert kinds["linear"] == linears + attentions - 2 * positions
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            ratio = sqnr(model(x), quantized(x))
        assert ratio is not None
        assert ratio > 20


def test_what_is_made_of_parameters_alone_is_computed_once() -> None:
    quantized = quantize(lively(swin(v2=True)), [torch.randn(2, 3, 32, 32)])
    rows = {row.name: row for row in quantized.table()}
    row = rows["features.1.0.attn.cpb_mlp.0"]
    assert (row.precision, row.reason) == ("float", "made of parameters alone: computed once")


class Attending(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **settings)
        self.memory = nn.Linear(8, self.attention.kdim)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.memory(x)
        value = x if self.attention.kdim < 8 else memory
        return x + self.attention(x, memory, value)[0]


class AttendingItself(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **settings)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        return y


@pytest.mark.parametrize(
    ("model", "projections"),
    [
        (AttendingItself(), ["in_proj", "out_proj"]),
        (AttendingItself(batch_first=True, bias=False), ["in_proj", "out_proj"]),
        (Attending(), ["q_proj", "k_proj", "v_proj", "out_proj"]),
        (Attending(bias=False, kdim=4), ["q_proj", "k_proj", "v_proj", "out_proj"]),
    ],
)
def test_the_projections_of_attention_run_in_int8(model: nn.Module, projections: list[str]) -> None:
    model, x = lively(model), torch.randn(5, 3, 8)
    quantized = quantize(model, [x])
    before = quantized(x)
    with torch.no_grad():
        ratio = sqnr(model(x), before)
    assert ratio is not None
    assert ratio > 30
    rows = [row for row in quantized.table() if row.name.startswith("attention.")]
    assert [row.name.removeprefix("attention.") for row in rows] == projections
    assert all(row.precision == "int8" for row in rows)
    for name in projections:
        changed = copy.deepcopy(quantized)
        weight = changed.tensors[f"attention.{name}.weight"]
        weight.copy_(weight.flip(0))
        assert not torch.allclose(changed(x), before), name


@pytest.mark.parametrize(
    ("settings", "arguments", "match"),
    [
        ({"add_bias_kv": True}, {}, "attention with added keys and values"),
        ({}, {"key_padding_mask": torch.zeros(3, 5)}, "a key padding mask"),
        ({}, {"is_causal": True}, "causal attention without a mask"),
    ],
)
def test_other_attention_is_refused(
    settings: dict[str, Any], arguments: dict[str, Any], match: str
) -> None:
    class Called(AttendingItself):
        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, **arguments)[0]

    with pytest.raises(UnsupportedError, match=match):
        trace(Called(**settings))


def test_weights_of_attention_are_refused_where_they_are_read() -> None:
    class Reading(AttendingItself):
        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[1] * 2.0

    with pytest.raises(UnsupportedError, match="mul of attention weights"):
        trace(Reading())


def test_a_mask_that_is_added() -> None:
    class Masked(AttendingItself):
        def __init__(self) -> None:
            super().__init__(batch_first=True)
            self.register_buffer("mask", torch.full((5, 5), -float("inf")).triu(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, attn_mask=self.get_buffer("mask"), need_weights=False)[0]

    model, x = lively(Masked()), torch.randn(3, 5, 8)
    program, sources = trace(model)
    got = interpreter.run(program, folded_tensors(sources, model.state_dict()), [x])
    torch.testing.assert_close(got, model(x))
    quantized = quantize(model, [x])
    assert isinstance(quantized, Int8Model)
    assert bool(torch.isneginf(quantized.tensors["mask.value"]).any())
    again = Int8Model.from_program(quantized.program_json(), quantized.tensors)
    later = torch.cat([x[:, :3], torch.randn(3, 2, 8)], 1)
    assert torch.equal(again(x)[:, :3], again(later)[:, :3])


class Spelled(nn.Module):
    """Attention in plain operations: its scores hold infinity, and nothing that is stored does."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("mask", torch.full((6, 6), -float("inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 8**0.5
        return (scores + self.get_buffer("mask")).softmax(-1) @ self.v(x)


def test_scores_that_hold_infinity() -> None:
    model = lively(Spelled())
    quantized = quantize(model, [torch.randn(3, 6, 8) for _ in range(2)], "fast")
    assert isinstance(quantized, Int8Model)
    assert quantized.int8_share() == pytest.approx(2 / 3, abs=0.2)
    x = torch.randn(5, 6, 8)
    with torch.no_grad():
        ratio = sqnr(model(x), quantized(x))
    assert ratio is not None
    assert ratio > 30
    again = Int8Model.from_program(quantized.program_json(), quantized.tensors)
    assert torch.equal(again(x), quantized(x))


def test_infinity_that_would_be_stored_is_refused() -> None:
    class Stored(Spelled):
        def forward(self, x: Tensor) -> Tensor:
            return self.v(self.q(x) + self.get_buffer("mask"))

    wide = Stored()
    wide.mask = torch.full((8, 8), -float("inf")).triu(1)
    with pytest.raises(CalibrationError, match="v, calibration batch 0: the output is not finite"):
        quantize(wide.eval(), [torch.randn(3, 8, 8)])
    x = torch.randn(3, 6, 8)
    with pytest.raises(CalibrationError, match="calibration batch 1: the input is not finite"):
        quantize(Spelled().eval(), [x, x - float("inf")])


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoders_of_torch(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, activation="gelu", batch_first=True, norm_first=norm_first
    )
    norm = nn.LayerNorm(8) if norm_first else None
    model = lively(nn.Sequential(nn.TransformerEncoder(layer, 2, norm, False), nn.Linear(8, 3)))
    x = torch.randn(4, 5, 8)
    quantized = quantize(model, [x])
    linears = [row for row in quantized.table() if row.kind == "linear"]
    assert [row.precision for row in linears] == ["int8"] * 9
    with torch.no_grad():
        ratio = sqnr(model(x[:2]), quantized(x[:2]))
    assert ratio is not None
    assert ratio > 25


def test_a_decoder_layer_of_torch() -> None:
    class Decoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerDecoderLayer(8, 2, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, x * 2.0)

    model, x = lively(Decoding()), torch.randn(4, 5, 8)
    program, sources = trace(model)
    got = interpreter.run(program, folded_tensors(sources, model.state_dict()), [x])
    torch.testing.assert_close(got, model(x))
