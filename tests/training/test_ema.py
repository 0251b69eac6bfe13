import torch
from torch import nn

from torchcompress.core.modules import named_tensors
from torchcompress.training import EMA, Run, TrainerConfig
from torchcompress.training.optimizer import build_optimizer


def _run(model: nn.Module) -> Run:
    return Run(model, build_optimizer(model, TrainerConfig()), TrainerConfig(), [], [])


def _shift(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for tensor in named_tensors(model).values():
            tensor.add_(int(by) if not tensor.is_floating_point() else by)


def test_means_follow_the_recurrence_for_weights_and_statistics() -> None:
    model = nn.BatchNorm2d(3)
    assert model.running_mean is not None
    ema, run = EMA(0.2), _run(model)
    ema.on_fit_start(run)
    mean = torch.zeros(3)
    for step in range(1, 6):
        _shift(model, step)
        ema.on_step_end(run)
        decay = min(0.2, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * model.running_mean
    ema.on_fit_end(run)
    torch.testing.assert_close(model.running_mean, mean)
    torch.testing.assert_close(model.bias.detach(), mean)
    assert model.num_batches_tracked == 15


def test_evaluation_sees_the_means_and_training_goes_on_unharmed() -> None:
    model = nn.Linear(2, 2)
    ema, run = EMA(0.5), _run(model)
    ema.on_fit_start(run)
    _shift(model, 1)
    ema.on_step_end(run)
    trained = model.weight.detach().clone()
    ema.on_eval_start(run)
    torch.testing.assert_close(model.weight.detach(), trained - 2 / 11)
    ema.on_eval_end(run)
    assert torch.equal(model.weight.detach(), trained)


def test_half_precision_is_averaged_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    nn.init.zeros_(model.weight)
    ema, run = EMA(0.9), _run(model)
    ema.on_fit_start(run)
    nn.init.ones_(model.weight)
    for _ in range(200):
        ema.on_step_end(run)
    ema.on_fit_end(run)
    assert model.weight.item() == 1.0
    assert model.weight.dtype == torch.bfloat16


def test_state_is_given_out_and_taken_back() -> None:
    model = nn.BatchNorm2d(2)
    ema, other, run = EMA(0.5), EMA(0.5), _run(model)
    ema.on_fit_start(run)
    _shift(model, 1)
    other.on_fit_start(run)
    ema.on_step_end(run)
    other.load_state_dict(ema.state_dict())
    _shift(model, 1)
    for one in (ema, other):
        one.on_step_end(run)
    mine, theirs = ema.state_dict(), other.state_dict()
    assert mine["steps"] == theirs["steps"] == 2
    assert all(torch.equal(mine["mean"][name], theirs["mean"][name]) for name in mine["mean"])


def test_means_take_another_shape_along_with_the_model() -> None:
    model = nn.Linear(2, 3, bias=False)
    ema, run = EMA(0.5), _run(model)
    ema.on_fit_start(run)
    _shift(model, 1)
    ema.on_step_end(run)
    before = ema.mean["weight"]
    ema.replace({"weight": before[1:]})
    model.weight.data = model.weight.data[1:]
    ema.on_fit_end(run)
    assert torch.equal(model.weight.detach(), before[1:])


def test_a_state_of_other_shapes_is_taken_back() -> None:
    model = nn.Linear(2, 3)
    small, ema = EMA(0.5), EMA(0.5)
    small.on_fit_start(_run(nn.Linear(2, 1)))
    ema.on_fit_start(_run(model))
    state = small.state_dict()
    ema.load_state_dict(state)
    taken = ema.mean["weight"]
    assert torch.equal(taken, state["mean"]["weight"])
    assert taken is not state["mean"]["weight"]
