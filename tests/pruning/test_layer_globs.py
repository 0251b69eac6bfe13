import numpy as np
import pytest

from torchcompress.errors import CompressError
from torchcompress.graph.groups import Group
from torchcompress.pruning.layer_globs import exclude_layers, globs, layer_ratios


def group(*producers: str, frozen: str | None = None) -> Group:
    members = {(f"{producers[0]}.weight", 0): np.arange(8)[:, None]}
    return Group(producers[0], members, np.arange(8), producers, 1, frozen)


GROUPS = [
    group("stem"),
    group("layer1.0.conv1"),
    group("layer1.0.conv2", "layer1.1.conv2"),
    group("layer2.0.conv1"),
    group("head", frozen="reaches the output"),
]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("stem", ["stem"]),
        ("layer1", ["layer1.0.conv1", "layer1.0.conv2"]),
        ("layer1.1.*", ["layer1.0.conv2"]),
        ("*.conv1", ["layer1.0.conv1", "layer2.0.conv1"]),
        ("head", []),
    ],
)
def test_an_excluded_module_stands_for_all_layers_in_it(pattern: str, names: list[str]) -> None:
    found = exclude_layers(GROUPS, [pattern])
    assert [g.name for g in found if g.frozen and "excluded" in g.frozen] == names
    assert found[-1].frozen == "reaches the output"


def test_globs_are_read_once_and_are_not_one_string() -> None:
    assert globs((name for name in ("stem", "head")), "exclude") == ("stem", "head")
    with pytest.raises(CompressError, match=r"give a list: \['stem'\]"):
        globs("stem", "exclude")


def test_of_ratios_that_match_the_last_one_counts() -> None:
    found = layer_ratios(GROUPS, {"*": 0.5, "layer1.*": 0.25, "layer1.1.conv2": 1})
    assert found == {
        "stem": 0.5,
        "layer1.0.conv1": 0.25,
        "layer1.0.conv2": 1,
        "layer2.0.conv1": 0.5,
    }


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ({"layer9.*": 0.5}, r"ratios\['layer9\.\*'\]: .* matches nothing"),
        ({"layer1.0.conv": 0.5}, "did you mean 'layer1.0.conv"),
        ({"head": 0.5}, "the channels of head must stay: reaches the output"),
        ({"stem": 0}, "outside"),
        ({"stem": 40}, r"ratios\['stem'\]: 40 is outside"),
    ],
)
def test_ratios_that_cannot_work_are_refused(ratios: dict[str, float], message: str) -> None:
    with pytest.raises(CompressError, match=message):
        layer_ratios(GROUPS, ratios)
