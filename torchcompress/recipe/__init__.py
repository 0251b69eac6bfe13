"""Recipes: chains of stages as a file or in Python, checked before anything runs."""

from torchcompress.recipe.finder import bundled_recipes, find_recipe
from torchcompress.recipe.prepare import Prepared, prepare
from torchcompress.recipe.read import load_recipe
from torchcompress.recipe.runner import RunResult, run_recipe
from torchcompress.recipe.schema import Recipe

__all__ = [
    "Prepared",
    "Recipe",
    "RunResult",
    "bundled_recipes",
    "find_recipe",
    "load_recipe",
    "prepare",
    "run_recipe",
]
