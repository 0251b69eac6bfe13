"""Everything that can be checked before anything trains."""

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from torchcompress.core.errors import RecipeError
from torchcompress.core.modules import match_names, undisturbed
from torchcompress.data import Data, open_data
from torchcompress.graph.macs import count_macs
from torchcompress.quantization import check_quantizable
from torchcompress.recipe.faults import as_recipe_error
from torchcompress.recipe.network import build_network
from torchcompress.recipe.schema import DataSection, Recipe
from torchcompress.recipe.stage_schema import (
    PruneChannels,
    PruneWeights,
    QuantizePtq,
    QuantizeQat,
    Train,
)
from torchcompress.recipe.stages import rehearse_pruning, weight_pruner


@dataclass(frozen=True)
class Prepared:
    """What a recipe starts from.

    Args:
        model: The network, with its weights.
        data: The data set, opened.
        example: The first calibration image, (1, C, H, W).
        trained: Whether the network came with weights.
    """

    model: nn.Module
    data: Data
    example: Tensor
    trained: bool


def prepare(
    recipe: Recipe, *, model: nn.Module | None = None, data: Data | None = None
) -> Prepared:
    """Opens the data, builds the network, and goes through the stages without training.

    Args:
        recipe: What will run.
        model: A network in place of the one that `[model]` says; it is copied.
        data: A data set in place of the one that `[data]` says.

    Raises:
        RecipeError: Missing data, weights of another network, a glob that matches nothing, or a
            target that cannot be reached; names the key.
    """
    if model is None and recipe.model.weights is None and not isinstance(recipe.stage[0], Train):
        raise RecipeError(
            f"{recipe.stage[0].kind!r} needs a trained network",
            where="stage[0]",
            hint="give model.weights, or let a stage of kind 'train' come first",
        )
    trained = model is not None or recipe.model.weights is not None
    data = data or open_recipe_data(recipe)
    model = (
        copy.deepcopy(model) if model is not None else build_recipe_model(recipe, data.num_classes)
    )
    example = data.example()
    with as_recipe_error("data", DataSection.model_fields):
        count_macs(model, example)
    _check_classes(model, data, example)
    for index, latency in enumerate(recipe.report.latency):
        with as_recipe_error(f"report.latency[{index}]", ()):
            count_macs(model, latency.setting().example(example))
    _rehearse(recipe, model, example)
    return Prepared(model, data, example, trained)


def open_recipe_data(recipe: Recipe) -> Data:
    """Opens the data set that `[data]` says.

    Raises:
        RecipeError: It is missing or damaged.
    """
    with as_recipe_error("data", DataSection.model_fields):
        return open_data(**recipe.data.model_dump(), seed=recipe.seed)


def build_recipe_model(recipe: Recipe, num_classes: int) -> nn.Module:
    """Builds the network that `[model]` says, with its weights.

    Raises:
        RecipeError: It cannot be built, or the weights do not fit.
    """
    section = recipe.model
    with as_recipe_error("model", type(section).model_fields):
        return build_network(section.arch, section.args, section.weights, num_classes)


def _check_classes(model: nn.Module, data: Data, example: Tensor) -> None:
    with undisturbed(model):
        output = model(example)
    if not isinstance(output, Tensor) or output.shape != (1, data.num_classes):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise RecipeError(
            f"the network answers {found} where {(1, data.num_classes)} is needed: "
            f"the data has {data.num_classes} classes",
            where="model.args",
            hint="leave num_classes out, it comes from the data",
        )


def _rehearse(recipe: Recipe, model: nn.Module, example: Tensor) -> None:
    """Applies what does not need training to a copy, stage after stage."""
    names = [name for name, _ in model.named_modules() if name]
    for index, stage in enumerate(recipe.stage):
        with as_recipe_error(f"stage[{index}]", type(stage).model_fields):
            if isinstance(stage, PruneChannels):
                model = rehearse_pruning(stage, model, example).apply(model)
            elif isinstance(stage, PruneWeights):
                model = copy.deepcopy(model)
                weight_pruner(stage, model).finalize()
            elif isinstance(stage, QuantizePtq | QuantizeQat):
                match_names(stage.exclude, names, "exclude")
                check_quantizable(model, example)
