"""Scores that hold because layers went back to float."""

import pytest
import torch
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.errors import CompressError


def chain() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(5):
        layers += [nn.Linear(16, 16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16, 4)).eval()


X = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
DATA = list(X.split(16))


def fidelity(model: nn.Module, reference: nn.Module) -> float:
    """Returns 100 less the error in percent."""
    want, got = reference(X), model(X)
    return 100 - 100 * ((got - want).norm() / want.norm()).item()


def test_as_few_layers_as_needed_go_back() -> None:
    model = chain()
    scores: list[float] = []

    def evaluate(made: nn.Module) -> float:
        scores.append(fidelity(made, model))
        return scores[-1]

    plain = fidelity(tc.quantize(model, DATA, "fast"), model)
    drop = 0.6 * (100 - plain)
    made = tc.quantize(model, DATA, "fast", max_drop=drop, evaluate=evaluate)
    assert scores[0] == 100
    assert scores[1] == plain
    assert fidelity(made, model) >= 100 - drop
    back = [row for row in made.table() if row.precision == "float"]
    assert 0 < len(back) < 6
    assert all(f"with {len(back)} layers in float" in row.reason for row in back)
    worst = [row.name for row in tc.sensitivity(model, DATA)][: len(back)]
    assert {row.name for row in back} == set(worst)
    assert len(scores) <= 2 + 3


def test_a_score_that_holds_already_keeps_all_layers() -> None:
    model, calls = chain(), list[nn.Module]()

    def evaluate(made: nn.Module) -> float:
        calls.append(made)
        return 1.0

    made = tc.quantize(model, DATA, "fast", max_drop=0.0, evaluate=evaluate)
    assert all(row.precision == "int8" for row in made.table())
    assert len(calls) == 2


def test_what_cannot_be_reached_is_an_error() -> None:
    model = chain()
    with pytest.raises(CompressError, match=r"max_drop: the score falls below 100 with any layer"):
        tc.quantize(model, DATA, "fast", max_drop=0.0, evaluate=lambda m: fidelity(m, model))
    with pytest.raises(CompressError, match="max_drop and evaluate go together"):
        tc.quantize(model, DATA, "fast", max_drop=1.0)
    with pytest.raises(CompressError, match="evaluate: is nan for the float model"):
        tc.quantize(model, DATA, "fast", max_drop=1.0, evaluate=lambda m: float("nan"))


def test_a_layer_back_in_float_has_its_own_weights() -> None:
    """Not the learned ones, nor a bias that made up for them."""

    def evaluate(made: nn.Module) -> float:
        return fidelity(made, model)

    model = chain()
    config = tc.QuantizationConfig(ranges="minmax", placement="all", equalization=False)
    ranking = tc.sensitivity(model, DATA)
    drop = 3 * 100 * ranking.rows[-1].noise ** 0.5
    made = tc.quantize(model, DATA, config, max_drop=drop, evaluate=evaluate)
    state: dict[str, Tensor] = model.state_dict()
    back = [row.name for row in made.table() if row.precision == "float"]
    assert back
    for name in back:
        torch.testing.assert_close(made.tensors[f"{name}.weight"], state[f"{name}.weight"])
        torch.testing.assert_close(made.tensors[f"{name}.bias"], state[f"{name}.bias"])
