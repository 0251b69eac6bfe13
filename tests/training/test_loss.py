import pytest
import torch
from torch import nn

from torchcompress.core.errors import CompressError
from torchcompress.training.loss import classification_loss, cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_closed_form_for_both_kinds_of_target(smoothing: float) -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 2, 2, 0])
    rows = nn.functional.one_hot(labels, 4).double()
    smooth = rows * (1 - smoothing) + smoothing / 4
    expected = -(smooth * (logits - logits.logsumexp(1, keepdim=True))).sum(1).mean()
    for target in (labels, labels.to(torch.uint8), rows, rows.float()):
        found = cross_entropy(logits, target, label_smoothing=smoothing)
        torch.testing.assert_close(found, expected)


def test_half_precision_logits_are_widened() -> None:
    logits = torch.tensor([[300.0, 0, 0]], dtype=torch.bfloat16)
    loss = cross_entropy(logits, torch.tensor([1]))
    assert loss.dtype == torch.float32
    assert loss.item() == 300.0


def test_a_label_out_of_range_is_named() -> None:
    with pytest.raises(CompressError, match="label 5, but the model has 3 classes"):
        cross_entropy(torch.zeros(2, 3), torch.tensor([0, 5]))


def test_missing_labels_are_named() -> None:
    with pytest.raises(CompressError, match="needs labels"):
        classification_loss(0.0)(nn.Identity(), torch.zeros(2, 3), None)
