from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import call
from torchcompress.training import Callback, Run, Trainer, TrainerConfig
from torchcompress.training.loss import cross_entropy

Make = Callable[..., Any]


def _same(one: nn.Module, other: nn.Module) -> bool:
    expected = other.state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in one.state_dict().items())


def test_it_learns_and_tells_how_well(make_model: Make, make_loader: Make) -> None:
    model = make_model().eval()
    result = Trainer(model, make_loader(), make_loader(), TrainerConfig(epochs=6, lr=0.2)).fit()
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.5 * losses[0]
    assert result.last_accuracy == result.history[-1]["accuracy"]
    assert result.best_accuracy == max(row["accuracy"] for row in result.history) > 0.7
    assert not model.training


def test_one_epoch_equals_a_loop_written_by_hand(make_model: Make) -> None:
    model, plain = make_model(), make_model()
    model[5].p = plain[5].p = 0.0
    batches = [(torch.randn(8, 3, 8, 8), torch.randint(4, (8,))) for _ in range(3)]
    config = TrainerConfig(epochs=1, lr=0.1, channels_last=False, clip_norm=0.5)
    result = Trainer(model, batches, config=config).fit()

    decayed = [p for p in plain.parameters() if p.ndim > 1]
    other = [p for p in plain.parameters() if p.ndim < 2]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": other}],
        lr=0.1,
        momentum=0.9,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    losses = []
    for inputs, labels in batches:
        loss = nn.functional.cross_entropy(plain(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert result.history[0]["loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert result.last_accuracy is result.best_accuracy is None


def test_the_seed_alone_decides_and_nothing_outside_is_touched(
    make_model: Make, make_loader: Make
) -> None:
    models = [make_model() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        before = torch.get_rng_state()
        Trainer(model, make_loader(), config=TrainerConfig(epochs=2, seed=seed)).fit()
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
    assert _same(models[0], models[1])
    assert not _same(models[0], models[2])


def test_two_trainers_in_one_process_share_nothing(make_model: Make, make_loader: Make) -> None:
    config = TrainerConfig(epochs=2, ema_decay=0.9)
    alone, outer, inner = make_model(), make_model(), make_model()
    Trainer(alone, make_loader(), config=config).fit()

    class TrainsAnother(Callback):
        def on_epoch_start(self, run: Run) -> None:
            if run.epoch == 1:
                Trainer(inner, make_loader(), config=config).fit()

    Trainer(outer, make_loader(), config=config, callbacks=[TrainsAnother()]).fit()
    assert _same(outer, alone)
    assert _same(inner, alone)


def test_callbacks_are_called_in_order(make_model: Make, make_loader: Make) -> None:
    seen: list[str] = []

    class Spy(Callback):
        pass

    events = [name for name in vars(Callback) if name.startswith("on_")]
    for event in events:
        setattr(Spy, event, lambda _, run, event=event: seen.append(f"{event} {run.step}"))
    loader = make_loader(count=32)
    Trainer(make_model(), loader, loader, TrainerConfig(epochs=1), callbacks=[Spy()]).fit()
    assert seen == [
        "on_fit_start 0",
        "on_epoch_start 0",
        "on_before_step 0",
        "on_step_end 0",
        "on_before_step 1",
        "on_step_end 1",
        "on_eval_start 1",
        "on_eval_end 1",
        "on_epoch_end 1",
        "on_fit_end 1",
    ]


def test_a_last_batch_of_one_is_left_out(make_model: Make, make_loader: Make) -> None:
    sizes: list[int] = []

    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return cross_entropy(model(inputs), labels)

    Trainer(make_model(), make_loader(33, 16), config=TrainerConfig(epochs=2), loss=loss).fit()
    assert sizes == [16, 16, 16, 16]
    sizes.clear()
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    Trainer(plain, make_loader(33, 16), config=TrainerConfig(epochs=1), loss=loss).fit()
    assert sizes == [16, 16, 1]


def test_named_terms_are_summed_and_logged(make_model: Make, make_loader: Make) -> None:
    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = model(inputs)
        return {"ce": cross_entropy(logits, labels), "size": 0.01 * logits.square().mean()}

    row = (
        Trainer(make_model(), make_loader(), config=TrainerConfig(epochs=1), loss=loss)
        .fit()
        .history[0]
    )
    assert row["loss"] == pytest.approx(row["loss.ce"] + row["loss.size"])


def test_one_hot_labels_train_the_same_model(make_model: Make) -> None:
    models = [make_model(), make_model()]
    images, labels = torch.randn(16, 3, 8, 8), torch.randint(4, (16,))
    rows = nn.functional.one_hot(labels, 4)
    config = TrainerConfig(epochs=2, label_smoothing=0.1)
    for model, target in zip(models, (labels, rows), strict=True):
        Trainer(model, [(images, target)], config=config).fit()
    for mine, theirs in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_mixup_gives_blended_rows_to_the_loss(make_model: Make, make_loader: Make) -> None:
    model = make_model()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    rows: list[Tensor] = []

    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        rows.append(labels)
        return cross_entropy(model(inputs), labels)

    config = TrainerConfig(epochs=1, mixup_alpha=1.0)
    Trainer(model, make_loader(), config=config, loss=loss).fit()
    assert len(calls) == 3 + 1
    assert all(row.shape == (16, 4) for row in rows)
    assert any(bool(((row > 0) & (row < 1)).any()) for row in rows)
    torch.testing.assert_close(torch.cat(rows).sum(1), torch.ones(48))


def test_several_inputs_and_extra_fields_of_a_batch_are_read() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(a + b)

    a, b, labels = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    config = TrainerConfig(epochs=1)
    results = [
        Trainer(Sum(), [(inputs, labels, "extra")], [(inputs, labels)], config).fit()
        for inputs in ((a, b), {"a": a, "b": b})
    ]
    assert all(result.last_accuracy is not None for result in results)


def test_inputs_alone_train_where_the_loss_needs_no_labels(make_model: Make) -> None:
    def loss(model: nn.Module, inputs: Any, labels: Any) -> Tensor:
        assert labels is None
        return call(model, inputs).square().mean()

    batches = [torch.randn(4, 3, 8, 8)]
    Trainer(make_model(), batches, config=TrainerConfig(epochs=1), loss=loss).fit()
    with pytest.raises(CompressError, match="needs labels"):
        Trainer(make_model(), batches).fit()
    with pytest.raises(CompressError, match="mixup needs labels"):
        Trainer(make_model(), batches, config=TrainerConfig(mixup_alpha=1.0)).fit()


def test_a_loss_that_is_not_finite_stops_before_the_step(
    make_model: Make, make_loader: Make
) -> None:
    model = make_model()
    calls: list[Tensor] = []

    def loss(_: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        calls.append(model[6].weight.detach().clone())
        factor = torch.nan if len(calls) == 5 else 1.0
        return {"ce": cross_entropy(model(inputs), labels) * factor, "other": torch.zeros(())}

    with pytest.raises(CompressError, match=r"epoch 2, step 4.*ce nan, other 0"):
        Trainer(model, make_loader(), loss=loss).fit()
    assert torch.equal(model[6].weight, calls[-1])


def test_a_step_that_is_not_taken_leaves_the_whole_model_as_it_was(make_model: Make) -> None:
    model, images = make_model(), torch.randn(4, 3, 8, 8)
    batches = [(images * factor, torch.arange(4)) for factor in (1, 1, torch.nan)]
    states: list[dict[str, Tensor]] = []

    class Spy(Callback):
        def on_step_end(self, run: Run) -> None:
            states.append({n: t.clone() for n, t in run.model.state_dict().items()})

    with pytest.raises(CompressError, match="not finite"):
        Trainer(model, batches, callbacks=[Spy()]).fit()
    assert len(states) == 2
    assert all(torch.equal(tensor, states[1][n]) for n, tensor in model.state_dict().items())


def test_what_cannot_be_trained_is_refused(make_model: Make, make_loader: Make) -> None:
    with pytest.raises(CompressError, match="train: the loader is empty"):
        Trainer(make_model(), [])
    with pytest.raises(CompressError, match="val: the loader is empty"):
        Trainer(make_model(), make_loader(), [])
    with pytest.raises(CompressError, match="label smoothing belongs to the default loss"):
        Trainer(
            make_model(),
            make_loader(),
            config=TrainerConfig(label_smoothing=0.1),
            loss=lambda model, inputs, labels: cross_entropy(model(inputs), labels),
        )
    with pytest.raises(CompressError, match="label 9, but the model has 4"):
        Trainer(make_model(), [(torch.randn(2, 3, 8, 8), torch.tensor([1, 9]))]).fit()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, inputs, labels: {}, "loss: the loss has no terms"),
        (lambda model, inputs, labels: 1.0, "loss is float, not a scalar tensor"),
        (lambda model, inputs, labels: None, "loss is NoneType, not a scalar tensor"),
        (lambda model, inputs, labels: {"ce": model(inputs)}, r"ce is \(48, 4\), not a scalar"),
        (
            lambda model, inputs, labels: nn.functional.cross_entropy(
                model(inputs), labels, reduction="none"
            ),
            r"loss is \(48,\), not a scalar",
        ),
        (
            lambda model, inputs, labels: cross_entropy(model(inputs), labels).detach(),
            "no trained parameter has a part in the loss",
        ),
    ],
)
def test_a_loss_that_cannot_be_minimised_is_named(
    make_model: Make, make_loader: Make, loss: Any, message: str
) -> None:
    with pytest.raises(CompressError, match=message):
        Trainer(make_model(), make_loader(batch_size=48), loss=loss).fit()


def test_labels_and_samples_must_be_as_many(make_model: Make, make_loader: Make) -> None:
    images, labels = torch.randn(6, 3, 8, 8), torch.zeros(5, dtype=torch.int64)
    for alpha in (0.0, 0.2):
        config = TrainerConfig(epochs=1, mixup_alpha=alpha)
        with pytest.raises(CompressError, match="labels: 5 labels for 6 samples"):
            Trainer(make_model(), [(images, labels)], config=config).fit()
    config = TrainerConfig(epochs=1)
    with pytest.raises(CompressError, match="val: 5 labels for 6 samples"):
        Trainer(make_model(), make_loader(), [(images, labels)], config).fit()
    with pytest.raises(CompressError, match="a batch has no labels"):
        Trainer(make_model(), make_loader(), [{"input": images, "labels": labels}], config).fit()
