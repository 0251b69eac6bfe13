import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.graph.labels import Labels, reshape_groups, varying


@given(st.lists(st.sampled_from([1, 2, 2, 3]), min_size=1, max_size=6), st.data())
def test_the_groups_of_a_reshape_are_of_equal_size_and_cover_all(
    factors: list[int], data: st.DataObject
) -> None:
    cuts = st.lists(st.integers(0, len(factors)), max_size=4).map(sorted)
    old, new = (
        [math.prod(part) for part in np.split(np.array(factors), data.draw(cuts))] for _ in range(2)
    )
    groups = reshape_groups(old, new)
    for olds, news in groups:
        assert math.prod(old[d] for d in olds) == math.prod(new[d] for d in news)
    assert [d for olds, _ in groups for d in olds] == [d for d, n in enumerate(old) if n > 1]
    assert [d for _, news in groups for d in news] == [d for d, n in enumerate(new) if n > 1]


def test_the_groups_of_a_reshape_are_the_smallest() -> None:
    assert reshape_groups((2, 6, 4), (2, 3, 2, 4)) == [([0], [0]), ([1], [1, 2]), ([2], [3])]
    assert reshape_groups((2, 3, 1, 4), (6, 4)) == [([0, 1], [0]), ([3], [1])]


def test_one_index_or_no_channel_says_nothing() -> None:
    assert varying(np.array([7])) is None
    assert varying(np.zeros(4, np.int64)) is None
    assert varying(None) is None
    vector = np.array([0, 7])
    assert varying(vector) is vector


def test_labels_compare_by_value() -> None:
    a = Labels((np.array([1, 2]), None))
    assert a.same(Labels((np.array([1, 2]), None)))
    assert not a.same(Labels((np.array([1, 3]), None)))
    assert not a.same(Labels.none(2))
    assert a.labelled
    assert a.at(-2) is a.dims[0]
