"""The passes of a sparsification: in each, fewer weights of each layer make up for the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from torchcompress.pruning.sparsify_file import Finished
from torchcompress.reconstruction.allocation import keep_by_layer, keep_dearest
from torchcompress.reconstruction.capture import Calibration
from torchcompress.reconstruction.constants import put_constant, takes_constant
from torchcompress.reconstruction.layers import Layer
from torchcompress.reconstruction.obs import Tiles
from torchcompress.reconstruction.sensitivity import output_sensitivity
from torchcompress.reconstruction.solve import choose_in_tiles, fit, removal_costs
from torchcompress.reconstruction.statistics import Moments
from torchcompress.reconstruction.walk import walk

DENSEST = 0.5
"""What the first of several passes keeps: so much goes at no loss worth a pass."""


@dataclass(frozen=True)
class Ingredients:
    """What a sparsification does; each can be left out to see what it is worth.

    Attributes:
        selection: Weights go by what their removal costs once the rest has made up for it
            (`cost`), or by their `magnitude`.
        allocation: One threshold over the `model`, or the same sparsity in each `layer`.
        update: Whether the weights that stay are fitted anew.
        step: The fraction of its weights that a pass keeps of the pass before; 0 for one pass.
        batch_norms: Whether statistics of batch norms are estimated anew, where that helps.
    """

    selection: Literal["cost", "magnitude"] = "cost"
    allocation: Literal["model", "layer"] = "model"
    update: bool = True
    step: float = 0.7
    batch_norms: bool = True


@dataclass(frozen=True)
class Budget:
    """How many weights go.

    Attributes:
        removed: Over all layers, those that are zero already included.
        whole: Weights of all layers.
        tiles: What goes together or competes.
    """

    removed: int
    whole: int
    tiles: Tiles | None

    @property
    def competing(self) -> Tiles | None:
        """Tiles of which so many weights stay, which are chosen while a layer is solved."""
        return None if self.tiles is None or self.tiles.kept is None else self.tiles

    def stages(self, step: float) -> list[int]:
        """Returns how many weights are gone after each pass, in equal ratios of what is left.

        Args:
            step: The smallest fraction that a pass keeps of what the pass before has kept.
        """
        left = 1 - self.removed / self.whole
        if step == 0 or left >= DENSEST or self.competing is not None:
            return [self.removed]
        count = 1 + math.ceil(math.log(left / DENSEST) / math.log(step))
        ratios = [(left / DENSEST) ** (index / (count - 1)) for index in range(count)]
        gone = [round(self.whole * (1 - DENSEST * ratio)) for ratio in ratios]
        return [*gone[:-1], self.removed]


def sparsify_layers(
    model: nn.Module,
    layers: Sequence[Layer],
    dense: nn.Module,
    twins: Sequence[Layer],
    calibration: Calibration,
    budget: Budget,
    ingredients: Ingredients,
    finished: Finished,
) -> None:
    """Zeroes weights in passes over the layers, and fits what stays to the dense outputs.

    Args:
        model: The model, changed in place.
        layers: Its layers that lose weights, in the order of the run.
        dense: The model before; left as it was.
        twins: Its layers, in the same order.
        calibration: The batches.
        budget: How many weights go.
        ingredients: What is done.
        finished: What has been done already, and where to keep what will be.
    """
    weights = {twin.name: twin.weight for twin in twins}
    sensitivity = output_sensitivity(dense, twins, calibration)
    if finished.state:
        model.load_state_dict(finished.state)
    stages = budget.stages(ingredients.step)
    competing = budget.competing if ingredients.selection == "cost" else None

    def cost(layer: Layer, squares: Tensor) -> Tensor:
        if ingredients.selection == "magnitude":
            found = layer.weight.double().square().float()
        else:
            found = (squares * sensitivity[layer.name][:, :, None].to(squares)).float()
        # What is zero already goes before weights that nothing hears, which cost nothing either.
        return found.masked_fill(weights[layer.name] == 0, -torch.finfo(torch.float32).tiny)

    if finished.passes == 0 and not finished.cost and competing is None:
        for layer, moments in walk(model, layers, dense, twins, calibration, "costs"):
            finished.cost[layer.name] = cost(
                layer, removal_costs(_fitted(layer, moments), layer.weight)
            )
    for stage in range(finished.passes, len(stages)):
        kept = {} if competing else _choose(finished.cost, stages[stage], budget, ingredients)
        label = f"pass {stage + 1} of {len(stages)}"
        pairs = zip(walk(model, layers, dense, twins, calibration, label), twins, strict=True)
        for (layer, moments), twin in pairs:
            if layer.name in finished.layers:
                continue
            stays = weights[layer.name] != 0
            if competing is None:
                stays &= kept[layer.name]
            else:
                stays = choose_in_tiles(_fitted(layer, moments), twin.weight, stays, competing)
            squares = _solve(layer, twin, moments, stays, update=ingredients.update)
            finished.layer_done(layer.name, cost(layer, squares), model)
        finished.pass_done(model)


def _choose(
    costs: dict[str, Tensor], removed: int, budget: Budget, ingredients: Ingredients
) -> dict[str, Tensor]:
    if ingredients.allocation == "layer" or budget.competing is not None:
        return keep_by_layer(costs, removed / budget.whole, budget.tiles)
    return keep_dearest(costs, removed, budget.tiles)


def _fitted(layer: Layer, moments: Moments) -> Moments:
    return moments.centered() if takes_constant(layer) else moments


def _solve(layer: Layer, twin: Layer, moments: Moments, stays: Tensor, *, update: bool) -> Tensor:
    """Writes the weights that stay, and returns what the removal of each now costs."""
    if not update:
        layer.write(twin.weight * stays)
        return removal_costs(_fitted(layer, moments), layer.weight)
    found = fit(_fitted(layer, moments), twin.weight, stays)
    layer.write(found.weight)
    if takes_constant(layer):
        if layer.norm is not None and twin.norm is not None:
            layer.norm.get_buffer("running_mean").copy_(twin.norm.get_buffer("running_mean"))
        mean = moments.y - (found.weight @ moments.x[:, :, None])[:, :, 0]
        put_constant(layer, mean / moments.count)
    return found.saliency
