import pytest

from torchcompress.core.errors import CompressError, RecipeError, TargetUnreachable
from torchcompress.recipe.faults import as_recipe_error, key_path


def test_a_path_is_written_as_in_an_override() -> None:
    assert key_path(["stage", 1, "loss", 0, "name"]) == "stage[1].loss[0].name"
    assert key_path([]) == ""


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("exclude", "stage[0].exclude"),
        ("target.macs", "stage[0].target.macs"),
        ("layer1.0.conv1", "stage[0] (layer1.0.conv1)"),
        (None, "stage[0]"),
    ],
)
def test_an_error_joins_the_path_where_it_names_a_key(where: str | None, path: str) -> None:
    with (
        pytest.raises(RecipeError, match="too much") as caught,
        as_recipe_error("stage[0]", ["exclude", "target"]),
    ):
        raise TargetUnreachable("too much", where=where, hint="ask for less")
    assert caught.value.where == path
    assert caught.value.hint == "ask for less"
    assert isinstance(caught.value.__cause__, CompressError)
