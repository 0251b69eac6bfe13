from typing import Any

import pytest
import torch

from torchcompress.core.errors import CompressError
from torchcompress.data.labels import check_labels, class_indices, one_hot


def test_indices_and_rows_are_two_forms_of_one_thing() -> None:
    labels = torch.tensor([2, 0, 1], dtype=torch.uint8)
    rows = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert torch.equal(one_hot(labels, 3), rows)
    assert torch.equal(one_hot(rows, 3), rows)
    assert class_indices(rows).tolist() == class_indices(labels).tolist() == [2, 0, 1]
    check_labels(labels, 3, "here", samples=3)
    check_labels(rows, 3, "here")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "label 3, but the model has 3 classes"),
        (torch.tensor([0, -1]), "label -1"),
        (torch.zeros(2, 4), "labels for 4 classes, but the model has 3"),
        (torch.zeros(2), "float32"),
        (torch.zeros(2, 3, 4), r"\(2, 3, 4\)"),
        (torch.tensor(1), r"shape \(\)"),
        (torch.tensor([0, 1, 2]), "3 labels for 2 samples"),
        ([0, 1], "labels are list, not a tensor"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels: Any, message: str) -> None:
    with pytest.raises(CompressError, match=message) as caught:
        check_labels(labels, 3, "batch 7", samples=2)
    assert str(caught.value).startswith("batch 7: ")
