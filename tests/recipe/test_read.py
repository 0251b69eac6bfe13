from pathlib import Path

import pytest

from torchcompress.core.errors import RecipeError
from torchcompress.recipe.read import load_recipe
from torchcompress.recipe.stage_schema import PruneChannels, Train

TEXT = """
schema = 1
name = "read"
[model]
arch = "resnet18"
[data]
dataset = "fashion-mnist-mini"
image_size = 32
[[stage]]
kind = "train"
epochs = 2
[[stage]]
kind = "prune.channels"
target = { macs = 0.5 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "read.toml"
    path.write_text(TEXT)
    return path


def test_values_are_replaced_and_added(file: Path) -> None:
    recipe = load_recipe(
        file,
        [
            "stage.0.epochs=7",
            "stage[0].lr=1e-4",
            "data.root=/some/where",
            "gate.max_file_mb=3",
            "stage.1.target={channels = 0.25}",
            'stage.1.exclude=["fc"]',
            "description=a = b",
        ],
    )
    train, prune = recipe.stage
    assert isinstance(train, Train)
    assert isinstance(prune, PruneChannels)
    assert (train.epochs, train.lr) == (7, 1e-4)
    assert recipe.data.root == "/some/where"
    assert recipe.gate.max_file_mb == 3
    assert prune.target.channels == 0.25
    assert prune.exclude == ["fc"]
    assert recipe.description == "a = b"


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("stage.0.epochz=7", "did you mean 'epochs'"),
        ("datta.root=x", "did you mean 'data'"),
        ("stage.0.epochs=many", "stage[0].epochs: 'many' is a text where a whole number"),
        ("stage.0.epochs=7.5", "stage[0].epochs: 7.5 is a number where a whole number"),
        ("stage.2.epochs=7", "there is no item 2 in this list of 2"),
        ("stage.first.epochs=7", "there is no item 'first'"),
        ("name.first=x", "'read' is not a table"),
        ("name.first.second=x", "'read' is not a table"),
        ("stage.0.epochs", "is not of the form key.path=value"),
        ("=3", "is not of the form key.path=value"),
        ("stage..epochs=3", "is not of the form key.path=value"),
        ("seed=1\nname='x'", "seed: "),
    ],
)
def test_a_wrong_override_is_refused(file: Path, override: str, part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, [override])
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "text", [TEXT.replace("epochs = 2", "epochs = 2\nepochs = 3"), "a = ", TEXT + "[model]\n"]
)
def test_a_duplicate_key_and_broken_toml_name_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"is not TOML: .* \(at ") as caught:
        load_recipe(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(("text", "part"), [("{", "is not JSON"), ("[]", "holds no table")])
def test_broken_json_is_refused(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(RecipeError, match=part):
        load_recipe(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(path)
