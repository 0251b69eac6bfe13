import pytest
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from torchcompress.errors import CompressError, UnsupportedError
from torchcompress.pruning.weights import prunable_weights


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3),
        nn.ConvTranspose2d(8, 4, 2),
        nn.Flatten(),
        nn.Linear(16, 16),
        nn.Linear(16, 10),
    )


def test_weights_of_layers_are_listed_and_the_ends_stay() -> None:
    found = prunable_weights(net())
    assert [w.name for w in found.weights] == [f"{i}.weight" for i in (0, 2, 3, 5, 6)]
    assert [w.name for w in found.free] == [f"{i}.weight" for i in (2, 3, 5)]
    assert "first convolution" in found.stays["0.weight"]
    assert "classifier" in found.stays["6.weight"]
    assert found.count == 216 + 576 + 128 + 256 + 160
    assert len(prunable_weights(net(), keep_ends=False).free) == 5


def test_globs_exclude_modules_and_weights() -> None:
    model = nn.Module()
    model.body, model.head = net(), nn.Linear(2, 2)
    assert [w.name for w in prunable_weights(model, ["body.[35]", "*.2.weight"]).free] == [
        "body.6.weight"
    ]
    assert [w.name for w in prunable_weights(model, ["body"], keep_ends=False).free] == [
        "head.weight"
    ]
    for wrong in ("bodi.3", "body.1"):
        with pytest.raises(CompressError, match="matches no convolution") as caught:
            prunable_weights(model, [wrong])
        assert caught.value.where == "exclude"
    with pytest.raises(CompressError, match="is one string"):
        prunable_weights(model, "body")


def test_attention_counts_and_a_shared_embedding_stays() -> None:
    model = nn.Module()
    model.embed = nn.Embedding(10, 8)
    model.attention = nn.MultiheadAttention(8, 2)
    model.cross = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    model.first, model.second = nn.Linear(8, 8), nn.Linear(8, 8)
    model.head = nn.Linear(8, 10)
    model.second.weight = model.first.weight
    model.head.weight = model.embed.weight
    found = prunable_weights(model, keep_ends=False)
    names = [
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        *(f"cross.{part}_proj_weight" for part in "qkv"),
        "cross.out_proj.weight",
        "first.weight",
    ]
    assert [w.name for w in found.free] == names
    assert found.stays == {"embed.weight": "shared with embed"}
    assert found.weights[2].layer == "attention.out_proj"


def test_what_cannot_be_pruned_is_said() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4), nn.Linear(4, 2))
    found = prunable_weights(model)
    assert found.stays["0.weight"] == "computed from other parameters"
    assert [w.name for w in found.free] == ["1.weight"]
    with pytest.raises(CompressError, match="has no weights"):
        prunable_weights(nn.BatchNorm2d(3))
    with pytest.raises(CompressError, match="every weight stays") as caught:
        prunable_weights(nn.Linear(3, 2))
    assert "keep_ends=False" in str(caught.value)
    with pytest.raises(UnsupportedError, match="run the model once"):
        prunable_weights(nn.LazyLinear(2))
