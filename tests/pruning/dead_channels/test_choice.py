import numpy as np

from torchcompress.graph.groups import Group
from torchcompress.pruning.dead_channels.choice import find_dead
from torchcompress.pruning.dead_channels.reads import Read, Sink


def group(name: str, *labels: int, frozen: str | None = None) -> Group:
    vector = np.array(labels, np.int64)
    return Group(name, {(f"{name}.weight", 0): vector[:, None]}, vector, (name,), 1, frozen)


def read(
    layer: str,
    labels: list[int],
    produced: list[int] | None,
    wired: list[list[int]],
    varies: list[int],
    values: list[float],
    sink: Sink | None = None,
) -> Read:
    matrix, moves = np.array(wired, bool), np.array(varies, bool)
    outputs = None if produced is None else np.array(produced, np.int64)
    return Read(
        layer, np.array(labels, np.int64), outputs, matrix, matrix & False,
        moves, moves, np.array(values), sink=sink, refusal="it may not",
    )  # fmt: skip


def chosen(groups: list[Group], reads: list[Read]) -> dict[str, list[int]]:
    return {name: units.tolist() for name, units in find_dead(groups, reads).removed.items()}


def test_zeros_and_what_nobody_hears_go() -> None:
    first = read("b", [1, 2, 3], None, [[1, 1, 0]], [0, 1, 1], [0, 0, 0])
    assert chosen([group("a", 1, 2, 3)], [first]) == {"a": [0, 2]}


def test_one_reader_that_needs_a_channel_keeps_it() -> None:
    deaf = read("b", [1, 2], None, [[0, 1]], [1, 1], [0, 0])
    hears = read("c", [1, 2], None, [[1, 1]], [1, 1], [0, 0])
    assert chosen([group("a", 1, 2)], [deaf, hears]) == {}


def test_a_cycle_of_the_unheard_goes_as_a_whole() -> None:
    loop = read("loop", [1, 2], [1, 2], [[1, 0], [0, 1]], [1, 1], [0, 0])
    out = read("out", [1, 2], None, [[0, 1]], [1, 1], [0, 0])
    assert chosen([group("a", 1, 2)], [loop, out]) == {"a": [0]}


def test_constants_stay_with_the_reason_where_nothing_takes_them() -> None:
    dead = find_dead([group("a", 1, 2)], [read("b", [1, 2], None, [[1, 1]], [0, 1], [3, 0])])
    assert dead.removed == {}
    assert dead.notes == {"a": "1 dead channel stays: it may not"}


def test_frozen_groups_keep_all_and_count_for_those_that_feed_them() -> None:
    feeds = read("b", [1, 2], [3, 4], [[1, 0], [0, 0]], [1, 1], [0, 0])
    out = read("c", [3, 4], None, [[0, 0]], [1, 1], [0, 0])
    free = [group("a", 1, 2), group("b", 3, 4)]
    held = [group("a", 1, 2), group("b", 3, 4, frozen="is excluded")]
    assert chosen(held, [feeds, out]) == {"a": [1]}
    assert chosen(free, [feeds, out]) == {"a": [1], "b": [1]}


def test_a_layer_keeps_one_which_nobody_hears_where_it_can() -> None:
    zeros = read("b", [1, 2, 3], None, [[1, 0, 1]], [0, 1, 0], [0, 0, 0])
    dead = find_dead([group("a", 1, 2, 3)], [zeros])
    assert dead.removed["a"].tolist() == [0, 2]
    assert dead.notes["a"] == "all channels are dead: one stays, as a layer needs one"
