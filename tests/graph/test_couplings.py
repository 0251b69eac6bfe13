import numpy as np
import pytest

from torchcompress.graph.couplings import Couplings


def classes(couplings: Couplings, vector: np.ndarray) -> list[int]:
    return couplings.roots(vector).tolist()


def test_coupling_is_transitive_and_carries_the_reason_along() -> None:
    couplings = Couplings()
    a, b, c = couplings.new(3), couplings.new(3), couplings.new(3)
    couplings.couple(a, b, "unused")
    couplings.freeze(c[:1], "because")
    couplings.couple(b, c, "unused")
    assert classes(couplings, a) == classes(couplings, c)
    assert couplings.reason(int(a[0])) == "because"
    assert couplings.reason(int(a[1])) is None


def test_a_label_that_meets_none_is_frozen() -> None:
    couplings = Couplings()
    a, b = couplings.new(3), couplings.new(2)
    couplings.couple(a, None, "meets nothing")
    couplings.couple(b, np.array([0, int(b[1])]), "meets padding")
    assert [couplings.reason(int(label)) for label in a] == ["meets nothing"] * 3
    assert [couplings.reason(int(label)) for label in b] == ["meets padding", None]


def test_dimensions_of_other_lengths_do_not_meet() -> None:
    couplings = Couplings()
    with pytest.raises(ValueError, match="3 indices meet 1"):
        couplings.couple(couplings.new(3), couplings.new(1), "fixed")


def test_what_is_inexact_is_carried_along_with_its_first_reason() -> None:
    couplings = Couplings()
    a, b = couplings.new(2), couplings.new(2)
    couplings.mark_inexact(b[:1], "normalised")
    couplings.mark_inexact(b, "averaged")
    couplings.couple(a, b, "unused")
    assert [couplings.inexact(int(label)) for label in a] == ["normalised", "averaged"]
    assert couplings.reason(int(a[0])) is None


def test_a_split_that_repeats_each_label_needs_no_grid() -> None:
    couplings = Couplings()
    channels = couplings.new(4)
    flat = couplings.join([channels, None, None], (4, 3, 2))
    assert flat is not None
    assert flat.tolist() == np.repeat(channels, 6).tolist()
    parts = couplings.split(flat, (4, 3, 2))
    assert parts[0] is not None
    assert parts[0].tolist() == channels.tolist()
    assert parts[1] is parts[2] is None


def test_a_grid_loses_the_same_columns_of_each_row_where_there_are_more_columns() -> None:
    couplings = Couplings()
    channels = couplings.new(10)
    rows, columns = couplings.split(channels, (2, 5))
    couplings.resolve()
    assert rows is not None
    assert columns is not None
    assert classes(couplings, channels[:5]) == classes(couplings, channels[5:])
    assert classes(couplings, columns) == classes(couplings, channels[:5])
    assert all(couplings.reason(int(label)) for label in rows)
    assert len(set(classes(couplings, channels))) == 5


def test_a_grid_that_the_code_counts_loses_columns_even_where_they_are_fewer() -> None:
    for counted, units in ((False, 5), (True, 2)):
        couplings = Couplings()
        channels = couplings.new(10)
        couplings.split(channels, (5, 2), counted=counted)
        couplings.resolve()
        assert len(set(classes(couplings, channels))) == units


def test_a_grid_loses_whole_rows_where_its_columns_are_frozen() -> None:
    couplings = Couplings()
    channels = couplings.new(10)
    rows, columns = couplings.split(channels, (2, 5))
    couplings.freeze(columns, "fixed")
    couplings.resolve()
    assert (
        classes(couplings, channels)
        == [classes(couplings, channels)[0]] * 5 + [classes(couplings, channels)[5]] * 5
    )
    assert rows is not None
    assert all(couplings.reason(int(label)) is None for label in rows)


def test_linked_grids_choose_the_same_axis() -> None:
    couplings = Couplings()
    wide, narrow = couplings.new(32), couplings.new(8)
    wide_rows, _ = couplings.split(wide, (4, 8))
    narrow_rows, narrow_columns = couplings.split(narrow, (4, 2))
    couplings.freeze(couplings.split(wide, (4, 8))[1], "fixed")
    couplings.couple(wide_rows, narrow_rows, "unused")
    couplings.resolve()
    assert len(set(classes(couplings, np.concatenate([wide, narrow])))) == 4
    assert narrow_columns is not None
    assert all(couplings.reason(int(label)) for label in narrow_columns)


def test_joining_and_splitting_again_gives_the_same_axes() -> None:
    couplings = Couplings()
    heads, width = couplings.new(3), couplings.new(4)
    joined = couplings.join([heads, width], (3, 4))
    parts = couplings.split(joined, (3, 4))
    assert parts[0] is heads
    assert parts[1] is width


def test_a_balance_pairs_what_is_free_and_leaves_what_is_balanced() -> None:
    couplings = Couplings()
    left, right = couplings.new(3), couplings.new(3)
    couplings.couple(left[:1], right[2:], "unused")
    couplings.balance([left, right])
    couplings.resolve()
    for label in set(classes(couplings, np.concatenate([left, right]))):
        in_left = classes(couplings, left).count(label)
        assert in_left == classes(couplings, right).count(label) == 1


def test_a_balance_without_partner_freezes() -> None:
    couplings = Couplings()
    left, right = couplings.new(3), couplings.new(3)
    couplings.freeze(right, "fixed")
    couplings.balance([left, right])
    couplings.resolve()
    assert all(couplings.reason(int(label)) for label in left)
