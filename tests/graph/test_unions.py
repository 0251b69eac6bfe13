import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from torchcompress.graph.unions import Unions

SIZE = 12
pairs = st.lists(st.tuples(st.integers(1, SIZE), st.integers(1, SIZE)), min_size=1, max_size=10)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(pairs, max_size=5))
def test_classes_are_those_of_a_walk_over_the_pairs(batches: list[list[tuple[int, int]]]) -> None:
    unions = Unions(())
    labels = unions.new(SIZE)
    near: dict[int, set[int]] = {label: {label} for label in labels.tolist()}
    for batch in batches:
        unions.unite(*np.array(batch).T)
        for a, b in batch:
            whole = near[a] | near[b]
            for label in whole:
                near[label] = whole
    assert unions.roots(labels).tolist() == [min(near[label]) for label in labels.tolist()]


def test_a_chain_of_thousands_is_one_class_whatever_the_order() -> None:
    unions = Unions(("colour",))
    labels = unions.new(5000)
    unions.mark("colour", labels[-1:], "red")
    unions.unite(labels[:-1], labels[1:])
    assert set(unions.roots(labels).tolist()) == {1}
    assert {unions.text(code) for code in unions.codes("colour", labels).tolist()} == {"red"}


def test_the_first_mark_of_a_class_is_kept() -> None:
    unions = Unions(("colour", "taste"))
    a, b = unions.new(3), unions.new(3)
    unions.mark("colour", a[:2], "red")
    unions.mark("colour", a[[0, 2]], "blue")
    unions.mark("colour", b, "green")
    unions.mark("taste", np.array([0, *b[:1]]), "sour")
    unions.unite(b, a)
    codes = unions.codes("colour", np.concatenate([a, b])).tolist()
    assert [unions.text(code) for code in codes] == ["red", "red", "blue"] * 2
    tastes = unions.codes("taste", a).tolist()
    assert [unions.text(code) for code in tastes] == ["sour", None, None]
