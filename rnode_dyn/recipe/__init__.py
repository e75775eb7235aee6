"""Recipes: a whole experiment in one TOML file, checked before anything runs."""

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.load import RecipeEntry, list_recipes, load_recipe, recipe_to_toml
from rnode_dyn.recipe.schema import Recipe

__all__ = [
    "Problem",
    "Recipe",
    "RecipeEntry",
    "RecipeError",
    "list_recipes",
    "load_recipe",
    "recipe_to_toml",
]
