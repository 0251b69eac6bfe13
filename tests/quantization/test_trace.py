from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import StochasticDepth

from torchcompress.core.errors import TraceError, UnsupportedError
from torchcompress.pruning.adapters import adapt_modules
from torchcompress.quantization import interpreter
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.trace import trace


def run(model: nn.Module, x: Tensor) -> Tensor:
    program, sources = trace(model)
    tensors = folded_tensors(sources, model.state_dict())
    with torch.no_grad():
        return interpreter.run(program, tensors, [x])


class Functional(nn.Module):
    """Everything by function, parameters included."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.matrix = nn.Parameter(torch.randn(5, 4))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.conv2d(x, self.weight, padding=1))
        y += x.mean((1, 2), keepdim=True) * 2
        y = F.max_pool2d(torch.cat([y, F.hardswish(y)], dim=1), 2)
        a, b = torch.chunk(y, 2, dim=1)
        y = torch.sigmoid(a) + b
        n, c, h, w = y.shape
        y = y.permute(0, 2, 3, 1).reshape(n, h * w, c).mean(1)
        y = F.dropout(y, 0.5, training=self.training)
        return F.linear(y.view(y.size(0), -1), self.matrix, self.bias)


class Wrapped(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))  # pyright: ignore


def test_functional_calls_and_dynamic_sizes() -> None:
    model = Functional().eval()
    program, _ = trace(model)
    assert Counter(op.kind for op in program.ops)["integer"] == 1
    for shape in ((2, 3, 8, 8), (3, 3, 6, 10)):
        x = torch.randn(shape)
        torch.testing.assert_close(run(model, x), model(x))


@pytest.mark.parametrize(
    ("name", "size"),
    [("shufflenet_v2_x0_5", 64), ("mobilenet_v3_small", 64), ("densenet121", 64)],
)
def test_families(name: str, size: int) -> None:
    model = get_model(name, weights=None, num_classes=10).eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(run(model, x), model(x), rtol=1e-3, atol=1e-4)


def test_shufflenet_shuffles_are_one_op() -> None:
    kinds = Counter(op.kind for op in trace(get_model("shufflenet_v2_x0_5", weights=None))[0].ops)
    assert kinds["channel_shuffle"] == 16
    assert not {"reshape", "transpose", "size", "integer"} & set(kinds)


def test_each_call_has_its_own_op_and_shares_its_tensors() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    program, sources = trace(Twice())
    assert [op.name for op in program.ops] == ["conv", "conv#2"]
    assert list(sources) == ["conv"]


def test_writing_in_place_means_the_new_value_everywhere() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            z = F.relu(y, inplace=True)
            y.add_(z)
            return y * z

    x = torch.randn(2, 5)
    torch.testing.assert_close(run(InPlace(), x), InPlace()(x))


def test_writing_in_place_through_a_view_is_refused() -> None:
    def function(y: Tensor) -> Tensor:
        flat = y.flatten(1)
        flat.relu_()
        return y + 1

    with pytest.raises(UnsupportedError, match="writing in place through a view"):
        trace(Wrapped(function))


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-3), nn.Dropout(0.2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda y: torch.fft.fft(y), r"fft_fft: the operation fft_fft cannot be quantized"),
        (lambda y: y[y > 0], "getitem: indexing a tensor"),
        (lambda y: F.dropout(y, 0.1), "dropout that stays on in eval mode"),
        (lambda y: torch.add(y, y, alpha=2, out=y), "add with these arguments"),
        (lambda y: {1: y, "1": y}, "output: a result whose keys are not text"),
        (nn.LSTM(4, 4), "function: the module LSTM"),
        (nn.MaxPool2d(2, return_indices=True), "function: max pooling that returns indices"),
        (nn.BatchNorm2d(4, track_running_stats=False), "without running statistics"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), "ParametrizedConv2d"),
        (nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)), "'function.weight' is not in the state_dict"),
    ],
)
def test_what_is_outside_the_list_is_named(function: object, match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        trace(Wrapped(function))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


def test_a_pruned_attention_is_named() -> None:
    model = Attending()
    adapt_modules(model, ["attention.in_proj_weight"])
    with pytest.raises(UnsupportedError, match="attention: the module PrunedMultiheadAttention"):
        trace(model)


class Symbols(nn.Module):
    """A map, the input and parameters, in a function of the test."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.act, self.drop = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Dropout()
        self.gate, self.map = nn.Parameter(torch.randn(4, 1, 1)), nn.Parameter(torch.randn(2, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.conv(x), x)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda s, y, x: F.conv2d(y, s.conv.weight * 2), "conv2d: a weight that the forward pass"),
        (lambda s, y, x: s.gate.add_(1) + y, "add_: add_ into a tensor of the model"),
        (lambda s, y, x: F.avg_pool2d(y, x.size(3)), "avg_pool2d: avg_pool2d of a size"),
        (lambda s, y, x: F.avg_pool2d(y, (x.shape[2], x.shape[3])), "avg_pool2d of a size"),
        (lambda s, y, x: y.chunk(x.shape[0], 1)[0], "chunk: chunk of a size"),
        (lambda s, y, x: y.reshape(x.shape), "reshape: reshape of a shape"),
    ],
)
def test_what_is_no_value_of_the_program_is_named(
    function: Callable[..., Tensor], match: str
) -> None:
    with pytest.raises(UnsupportedError, match=match):
        trace(Symbols(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda s, y, x: y * torch.sigmoid(s.gate),
        lambda s, y, x: torch.cat([y, s.map.unsqueeze(-1).expand(-1, -1, -1, 8)], 1),
        lambda s, y, x: y + s.act(s.gate * 2) + s.gate.shape[0] + s.gate.dim(),
        lambda s, y, x: y + torch.ones(4, 1, 1),
    ],
)
def test_tensors_of_the_model_are_values(function: Callable[..., Tensor]) -> None:
    model, x = Symbols(function).eval(), torch.randn(2, 3, 8, 8)
    before = set(vars(model))
    torch.testing.assert_close(run(model, x), model(x))
    assert set(vars(model)) == before


@pytest.mark.parametrize(
    "function",
    [
        lambda s, y, x: s.act(input=y) + y,
        lambda s, y, x: s.drop(input=y),
        lambda s, y, x: F.relu(input=y, inplace=True) + y,
    ],
)
def test_inputs_by_keyword(function: Callable[..., Tensor]) -> None:
    model, x = Symbols(function).eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(run(model, x), model(x))


def test_control_flow_on_values_is_a_trace_error() -> None:
    with pytest.raises(TraceError, match="control flow depends on values"):
        trace(Wrapped(lambda y: y if y.sum() > 0 else -y))


class Dropping(nn.Module):
    """A dropout of each way of writing one, and a head that train mode alone has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.drop = nn.Dropout(0.25, inplace=True)
        self.depth = StochasticDepth(0.1, "row")

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.dropout(F.relu(self.first(x)), 0.5, self.training)
        aside = self.head(F.relu(x)) if self.training else x
        x = self.depth(F.relu(self.second(x)))
        self.drop(x)
        return (x, aside) if self.training else x


def test_train_mode_keeps_dropouts_and_calls_keep_their_names() -> None:
    model = Dropping().eval()
    evaluated, _ = trace(model)
    trained, _ = trace(model, training=True)
    assert not model.training
    drops = [(op.args["name"], op.args["p"]) for op in trained.ops if op.kind == "dropout"]
    assert drops == [("dropout", 0.5), ("stochastic_depth", 0.1), ("dropout", 0.25)]
    # Written in place: what is returned is what the last dropout made.
    assert trained.result == ["tuple", trained.ops[-1].output, trained.ops[-5].output]
    names = {op.name for op in trained.ops if op.kind != "dropout"}
    assert {op.name for op in evaluated.ops} == {"first", "relu", "second", "relu#2"}
    assert names == {"first", "relu", "head", "relu#2", "second", "relu#3"}
