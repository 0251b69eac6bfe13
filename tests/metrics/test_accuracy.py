from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.metrics.accuracy import Accuracy, evaluate


class _Echo(nn.Module):
    """Gives its inputs back; logits written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.inner.training
        return x


_LOGITS = torch.tensor([[9.0, 0, 0, 0], [0, 9, 0, 0], [9, 0, 0, 0], [0, 0, 9, 0], [9, 0, 0, 0]])
_LABELS = torch.tensor([0, 1, 1, 2, 0])


def _batches() -> list[tuple[Tensor, Tensor]]:
    return [(_LOGITS[:3], _LABELS[:3]), (_LOGITS[3:], _LABELS[3:])]


def test_counts_in_all_and_by_class() -> None:
    found = evaluate(_Echo(), _batches())
    assert found == Accuracy(correct=4, total=5, per_class=(1.0, 0.5, 1.0, None))
    assert found.fraction == 0.8


def test_one_hot_labels_give_the_same() -> None:
    rows = nn.functional.one_hot(_LABELS, 4).float()
    assert evaluate(_Echo(), [(_LOGITS, rows)]) == evaluate(_Echo(), _batches())


def test_each_module_keeps_its_mode() -> None:
    model = nn.Sequential(_Echo(), nn.Dropout())
    model.train()
    model[1].eval()
    evaluate(model, _batches())
    assert [m.training for m in model.modules()] == [True, True, True, False]


def test_forward_reads_a_batch_in_its_own_way() -> None:
    def forward(model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0]["x"])

    assert evaluate(_Echo(), [({"x": _LOGITS}, _LABELS)], forward=forward).correct == 4


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "yielded nothing"),
        ([(_LOGITS, _LABELS), (_LOGITS, _LABELS + 3)], "batch 1: label 4"),
        ([_LOGITS], "no labels"),
        ([(_LOGITS * torch.nan, _LABELS)], "batch 0: the output holds NaN"),
        ([(_LOGITS[0], _LABELS)], r"the output is \(4,\)"),
    ],
)
def test_what_cannot_be_measured_is_named(batches: list[Any], message: str) -> None:
    with pytest.raises(CompressError, match=message):
        evaluate(_Echo(), batches)
