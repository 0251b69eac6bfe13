import math

import pytest
import torch
from torch import nn

from torchcompress.core.errors import CompressError
from torchcompress.training import TrainerConfig
from torchcompress.training.optimizer import build_optimizer, lr_factor, set_lr


def test_the_rate_rises_to_its_highest_then_falls_along_a_cosine() -> None:
    factors = [lr_factor(step, 4, 12) for step in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[8] == pytest.approx(0.5)
    assert factors[11] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert lr_factor(0, 0, 10) == 1.0
    assert lr_factor(0, 0.5, 10) == 1.0
    assert lr_factor(30, 0, 10) == 0.0


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    groups = build_optimizer(model, TrainerConfig(weight_decay=0.1)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert {id(p) for p in groups[0]["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert len(groups[1]["params"]) == 4


def test_sgd_steps_by_the_textbook_also_in_channels_last() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, TrainerConfig(lr=0.1, momentum=0.9, weight_decay=0.01))
    weight = model.weight.detach().clone().contiguous()
    velocity = torch.zeros_like(weight)
    for step in range(3):
        set_lr(optimizer, lr_factor(step, 2, 4))
        model.zero_grad()
        model(torch.randn(2, 3, 5, 5)).square().mean().backward()
        assert model.weight.grad is not None
        gradient = model.weight.grad + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - 0.1 * lr_factor(step, 2, 4) * (gradient + 0.9 * velocity)
        optimizer.step()
        torch.testing.assert_close(model.weight.detach(), weight)


def test_adamw_first_step_moves_each_weight_by_the_rate() -> None:
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(model, TrainerConfig(optimizer="adamw", lr=0.1, weight_decay=0.5))
    model(torch.randn(4, 3)).sum().backward()
    assert model.weight.grad is not None
    sign = model.weight.grad.sign()
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.1 * 0.5) - 0.1 * sign)


def test_frozen_parameters_stay_out_and_a_frozen_model_is_refused() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    groups = build_optimizer(model, TrainerConfig()).param_groups
    assert [len(g["params"]) for g in groups] == [1]
    model.weight.requires_grad_(False)
    with pytest.raises(CompressError, match="no parameter requires a gradient"):
        build_optimizer(model, TrainerConfig())
