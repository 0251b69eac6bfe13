"""What preparing a model leaves as it was, and what it refuses."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

import torchcompress as tc
from torchcompress.core.errors import CalibrationError, CompressError, UnsupportedError
from torchcompress.quantization.qat import QATConfig, convert, prepare_qat
from torchcompress.quantization.qat.prepared import quantizers_of

Lively = Callable[[nn.Module], nn.Module]
Train = Callable[..., nn.Module]


def settings(model: nn.Module) -> tuple[object, ...]:
    norm, drop = model.get_submodule("norm"), model.get_submodule("drop")
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(drop, nn.Dropout)
    return type(norm), norm.eps, norm.momentum, drop.p


def test_the_model_keeps_its_class_names_and_settings(
    small: nn.Module, images: Tensor, train: Train
) -> None:
    before = copy.deepcopy(small.state_dict())
    prepared = prepare_qat(small, images)
    want = (nn.BatchNorm2d, 1e-3, 0.01, 0.2)
    for model in (prepared, prepared.train(), prepared.eval(), train(prepared, images)):
        assert settings(model) == want
    convert(prepared)
    assert settings(prepared) == want
    assert isinstance(prepared, type(small))
    assert type(small) is not type(prepared)
    modules = [name for name, _ in prepared.named_modules()]
    assert [name for name, _ in small.named_modules()] == modules[
        : modules.index("fake_quantizers")
    ]
    keys = [key for key in prepared.state_dict() if not key.startswith("fake_quantizers.")]
    assert keys == list(before)
    assert all(torch.equal(before[key], value) for key, value in small.state_dict().items())


def test_the_prepared_model_is_close_to_float(small: nn.Module, images: Tensor) -> None:
    for config in (QATConfig(), QATConfig(ranges="minmax"), QATConfig(learned=True)):
        prepared = prepare_qat(small, images, config)
        with torch.no_grad():
            gap = (prepared(images) - small(images)).square().mean()
            assert gap < 1e-3 * small(images).square().mean()
            again = tc.quantize(small, [images], "default" if config.ranges == "mse" else "fast")
            assert (convert(prepared)(images) - again(images)).abs().max() < 0.1 * gap.sqrt() + 1e-2


def test_ranges_start_from_calibration_data(small: nn.Module, images: Tensor) -> None:
    batches = [images, 3 * images]
    prepared = prepare_qat(small, images, QATConfig(ranges="minmax"), calibration=batches)
    (first, *_) = quantizers_of(prepared).ranges.grids()
    extent = 3 * (images.amax() - images.amin())
    torch.testing.assert_close(torch.tensor(first.scale), extent / 255, rtol=1e-5, atol=0)


def test_copies_at_every_stage_compute_the_same(
    small: nn.Module, images: Tensor, train: Train
) -> None:
    prepared = prepare_qat(small, images)
    for stage in ("prepared", "trained"):
        copied = copy.deepcopy(prepared)
        pickled = pickle.loads(pickle.dumps(prepared))
        with torch.no_grad():
            want = prepared.eval()(images)
            assert torch.equal(copied.eval()(images), want)
            assert torch.equal(pickled.eval()(images), want)
        assert type(copied) is type(pickled) is type(prepared)
        assert torch.equal(convert(copied)(images), convert(prepared)(images)), stage
        train(prepared, images)
        assert not torch.equal(copied(images), prepared(images))
    int8 = convert(prepared)
    assert torch.equal(copy.deepcopy(int8)(images), int8(images))


@pytest.mark.parametrize("learned", [False, True])
def test_state_dict_round_trip(
    small: nn.Module, images: Tensor, train: Train, learned: bool
) -> None:
    config = QATConfig(learned=learned)
    prepared = train(prepare_qat(small, images, config), images)
    file = io.BytesIO()
    torch.save(prepared.state_dict(), file)
    file.seek(0)
    fresh = prepare_qat(small, 2 * images, config)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    quantizers = quantizers_of(fresh)
    assert quantizers.norms_frozen
    assert not quantizers.ranges.observing
    for model in (prepared, fresh):
        torch.manual_seed(1)
        train(model, images, steps=3)
    torch.testing.assert_close(fresh.state_dict(), prepared.state_dict(), rtol=0, atol=0)
    assert torch.equal(convert(fresh)(images), convert(prepared)(images))


class Twice(nn.Module):
    """One ReLU module at two call sites, whose inputs differ a hundred times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.third = nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        return self.third(self.relu(100 * self.second(x)))


def test_one_relu_at_two_call_sites_has_two_ranges(images: Tensor) -> None:
    prepared = prepare_qat(Twice(), images).train()
    for _ in range(3):
        prepared(images)
    scales = [grid.scale for grid in quantizers_of(prepared).ranges.grids()]
    assert max(scales) > 20 * min(scales)


class Shared(nn.Module):
    """Branches that share one range, because they are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.third = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.first(x)), F.relu(2 * self.second(x))
        return self.third(torch.cat([a, b], 1))


def test_concatenated_branches_share_a_range_that_holds_both(images: Tensor) -> None:
    model = Shared()
    prepared = prepare_qat(model, images, QATConfig(ranges="minmax", averaging=1.0)).train()
    for _ in range(3):
        prepared(3 * images)
    with torch.no_grad():
        a, b = F.relu(model.first(3 * images)), F.relu(2 * model.second(3 * images))
    want = max(a.amax().item(), b.amax().item()) / 255
    scales = [grid.scale for grid in quantizers_of(prepared).ranges.grids()]
    assert len(scales) == 2
    assert min(abs(scale / want - 1) for scale in scales) < 0.05


@pytest.mark.parametrize("gamma", [0.0, -1.5])
@pytest.mark.parametrize("frozen", [False, True])
def test_gamma_of_zero_or_below_is_exact(images: Tensor, gamma: float, frozen: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.weight, gamma)
    nn.init.normal_(norm.bias)
    prepared = prepare_qat(model, images).train(not frozen)
    if frozen:
        tc.freeze_norms(prepared)
    outputs = prepared.train()(images)
    assert outputs.isfinite().all()
    if gamma == 0:
        want = norm.bias.view(1, -1, 1, 1).expand_as(outputs)
        assert torch.equal(outputs, want.clone())
    else:
        torch.testing.assert_close(outputs, model.train(not frozen)(images), rtol=0.05, atol=0.1)
    outputs.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prepared.parameters())
    assert convert(prepared.eval())(images).isfinite().all()


def test_batch_statistics_are_those_of_the_rounded_weights(
    small: nn.Module, images: Tensor
) -> None:
    """A norm that follows its batches sees a convolution whose weights are rounded, no more."""
    prepared = prepare_qat(small, images).train()
    conv, norm = prepared.get_submodule("stem"), prepared.get_submodule("norm")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    weight = conv.weight.detach()
    step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    x = quantizers_of(prepared).ranges.quantize(
        0, images, quantizers_of(prepared).ranges.grids()[0]
    )
    made = F.conv2d(x, (weight / step).round() * step, stride=2, padding=1)
    want = norm.running_mean.lerp(made.mean((0, 2, 3)), 0.01)
    prepared(images)
    torch.testing.assert_close(norm.running_mean, want, rtol=1e-4, atol=1e-6)


class Heads(nn.Module):
    """An auxiliary head that train mode alone has, and dropouts of every kind of writing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.aux = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x))
        x = F.dropout2d(x, 0.3, self.training).mean((2, 3))
        return (self.head(x), self.aux(F.relu(x))) if self.training else self.head(x)


def test_a_head_of_train_mode_trains_in_float(images: Tensor, train: Train) -> None:
    prepared = prepare_qat(Heads(), images).train()
    outputs, aside = prepared(images)
    (outputs.sum() + aside.sum()).backward()
    weight = prepared.get_parameter("aux.weight")
    assert weight.grad is not None
    assert isinstance(prepared.eval()(images), Tensor)
    assert {row.name for row in convert(prepared).table()} == {"stem", "head"}


@pytest.mark.filterwarnings("ignore:.*concatenated branches:UserWarning")
def test_named_tuples_of_train_mode_stay() -> None:
    model = get_model("googlenet", weights=None, num_classes=4, init_weights=False)
    prepared = prepare_qat(model.eval(), x := torch.randn(2, 3, 64, 64)).train()
    outputs = prepared(x)
    assert outputs.logits.shape == outputs.aux_logits1.shape == (2, 4)


def test_dropouts_act_in_train_mode_alone(small: nn.Module, images: Tensor) -> None:
    prepared = prepare_qat(small, images)
    tc.freeze_norms(prepared)
    tc.freeze_ranges(prepared)
    with torch.no_grad():
        assert torch.equal(prepared.eval()(images), prepared(images))
        assert not torch.equal(prepared.train()(images), prepared(images))
        drop = prepared.get_submodule("drop")
        assert isinstance(drop, nn.Dropout)
        drop.p = 0.0  # A module's probability is read as it is now.
        torch.manual_seed(0)
        first = prepared(images)
        torch.manual_seed(0)
        assert torch.equal(prepared(images), first)


class Between(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4))


def test_what_cannot_be_prepared_is_refused(small: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnsupportedError, match="is prepared for quantization-aware"):
        prepare_qat(prepare_qat(small, images), images)
    with pytest.raises(UnsupportedError, match="int8 already"):
        prepare_qat(tc.quantize(small, [images]), images)
    with pytest.raises(UnsupportedError, match=r"stem.weight: is torch.float16"):
        prepare_qat(copy.deepcopy(small).half(), images)
    with pytest.raises(UnsupportedError, match="nothing in this model"):
        prepare_qat(small, images, QATConfig(exclude=("*",)))
    with pytest.raises(UnsupportedError, match="between the parts of this layer"):
        prepare_qat(Between(), images)
    with pytest.raises(CompressError, match="matches nothing"):
        prepare_qat(small, images, QATConfig(exclude=("haed",)))
    with pytest.raises(CalibrationError, match="calibration batch 0"):
        prepare_qat(small, images * float("nan"))
    with pytest.raises(CompressError, match=r"config\.averaging"):
        QATConfig(averaging=0)


def test_excluded_layers_train_in_float(small: nn.Module, images: Tensor, train: Train) -> None:
    prepared = train(prepare_qat(small, images, QATConfig(exclude=("head", "stem"))), images)
    rows = {row.name: row.precision for row in convert(prepared).table()}
    assert rows == {"stem": "float", "depthwise": "int8", "hidden": "int8", "head": "float"}
