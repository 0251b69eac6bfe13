"""The layers of a network as a table: what a user needs to write a glob."""

from collections.abc import Sequence

import torch
from torch import nn

from torchcompress.core.errors import RecipeError
from torchcompress.core.history import Architecture
from torchcompress.deploy import build, load, read_manifest
from torchcompress.graph.macs import LayerCost, count_macs, layer_costs
from torchcompress.metrics.measure import float_form
from torchcompress.quantization import Int8Model, PartlyInt8Model
from torchcompress.recipe.faults import as_recipe_error
from torchcompress.recipe.network import check_architecture
from torchcompress.recipe.prepare import build_recipe_model, open_recipe_data
from torchcompress.recipe.read import load_recipe
from torchcompress.report import text_table
from torchcompress.report.words import count

_DEFAULT_SHAPE = (3, 224, 224)


def layers_to_text(source: str, image_size: int | None = None) -> str:
    """Returns the layers of a network with names, shapes and MACs of one sample.

    An int8 network has no MACs by layer; it says which layers run in int8.

    Args:
        source: A torchvision model, a recipe (`.toml` or `.json`) or an artifact (`.tcz`).
        image_size: Height and width in pixels, by default what the file says, else 224.

    Raises:
        RecipeError: An unknown architecture, or a recipe that cannot work.
        ArtifactError: A file that is no artifact.
    """
    model, shape = _open(source)
    if image_size is not None:
        shape = (*shape[:-2], image_size, image_size)
    x = torch.zeros(1, *shape)
    if isinstance(model, Int8Model | PartlyInt8Model):
        table, macs = _int8_table(model), count_macs(float_form(model, x), x)
    else:
        costs = layer_costs(model, x)
        table, macs = _cost_table(costs), sum(cost.macs for cost in costs)
    return f"{table}\n\n{count(macs)} MACs for one input of {_shape(shape)}"


def _cost_table(costs: Sequence[LayerCost]) -> str:
    rows = [
        [
            cost.name,
            cost.kind,
            _shape(cost.weight_shape),
            _shape(cost.output_shape),
            count(cost.params),
            count(cost.macs),
        ]
        for cost in costs
    ]
    return text_table(["layer", "kind", "weight", "output", "parameters", "MACs"], rows)


def _int8_table(model: Int8Model | PartlyInt8Model) -> str:
    weights = {name: _shape(tensor.shape) for name, tensor in model.tensors.items()}
    rows = [
        [row.name, row.kind, weights.get(f"{row.name}.weight", ""), row.precision]
        for row in model.table()
    ]
    return text_table(["layer", "kind", "weight", "runs in"], rows)


def _open(source: str) -> tuple[nn.Module, Sequence[int]]:
    if source.endswith(".tcz"):
        return load(source), read_manifest(source).input_shape or _DEFAULT_SHAPE
    if source.endswith((".toml", ".json")):
        recipe = load_recipe(source)
        data = open_recipe_data(recipe)
        return build_recipe_model(recipe, data.num_classes), data.input_shape
    with as_recipe_error("ARCH", ()):
        if ":" in source:
            raise RecipeError("a factory is listed by a recipe that names it")
        check_architecture(source)
    return build(Architecture(source)), _DEFAULT_SHAPE


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
