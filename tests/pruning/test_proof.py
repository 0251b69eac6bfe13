import torch

from torchcompress.pruning.proof import compare_outputs

a = torch.tensor([1.0, -4.0])


def test_equal_outputs_compare_in_any_structure() -> None:
    assert compare_outputs({"out": (a, [a])}, {"out": (a.clone(), [a])}) == (0.0, None)


def test_the_difference_is_relative_to_the_largest_value() -> None:
    difference, failure = compare_outputs(a, a + 4e-5)
    assert abs(difference - 1e-5) < 1e-6
    assert failure is None


def test_what_differs_is_named() -> None:
    assert compare_outputs({"a": a}, {"b": a})[1] == "the output holds ['b'], not ['a']"
    assert compare_outputs([a], [a[:1]])[1] == "output [0] has the shape (1,), not (2,)"
    assert str(compare_outputs([a], [a + 1])[1]).startswith("output [0] differs by 2.5e-01")
    assert compare_outputs(torch.tensor([1]), torch.tensor([2]))[1] == "output differs"


def test_infinities_are_equal_where_they_should_be() -> None:
    masked = torch.tensor([1.0, -float("inf")])
    assert compare_outputs(masked, masked + torch.tensor([1e-6, 0.0]))[1] is None
    assert compare_outputs(masked, -masked)[1] is not None


def test_nan_is_a_failure() -> None:
    assert compare_outputs(a, a * float("nan"))[1] is not None
