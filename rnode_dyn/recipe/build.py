"""From a recipe to objects: fields, solvers, flows, data."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.registry import describe_data, load_data
from rnode_dyn.data.scaling import Scaling
from rnode_dyn.data.splits import Event, Splits
from rnode_dyn.fields.conv import ConvField
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.fields.unet import UNetField, check_fits
from rnode_dyn.flows.end_time import EndTime, as_float
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.standardize import Standardize, standardizing
from rnode_dyn.flows.transforms import Squeeze, Transform
from rnode_dyn.recipe.block_parts import ALGORITHMS as ALGORITHMS
from rnode_dyn.recipe.block_parts import SENSITIVITIES as SENSITIVITIES
from rnode_dyn.recipe.block_parts import (
    build_divergence,
    build_end,
    build_quadrature,
    build_regularizers,
    build_sensitivity,
    build_solver,
)
from rnode_dyn.recipe.errors import problem_at
from rnode_dyn.recipe.preprocess import build_preprocess
from rnode_dyn.recipe.schema import FieldRecipe, Recipe, ScaleParts, ScaleRecipe

_Given = Mapping[str, Any]
"""What a field is built with for the data's condition."""


def describe_event(recipe: Recipe) -> Event:
    """What one sample of the recipe's data looks like.

    Raises:
        RecipeError: if the data set cannot be as the recipe says.
    """
    data = recipe.data
    with _blaming_the_data(recipe):
        return describe_data(
            data.dataset,
            root=data.root,
            image_size=data.image_size,
            levels=data.levels,
            channels=data.channels,
            columns=data.columns,
            variant=data.variant,
            on_bad_file=data.on_bad_file,
            condition=data.condition,
            condition_columns=data.condition_columns,
        )


def governed_blocks(recipe: Recipe, model: MultiscaleFlow) -> list[RegularizedFlow]:
    """Return the blocks whose recipe says ``step = "auto"``.

    Example:
        >>> recipe = Recipe(name="x", data={"dataset": "fake"}, solver={"step": "auto"})
        >>> len(governed_blocks(recipe, build_model(recipe)))
        1
    """
    return [
        block
        for number, scale in enumerate(model.scale_list())
        for block in scale.blocks
        if recipe.for_scale(number).solver.step == "auto"
    ]


def load_splits(recipe: Recipe) -> Splits:
    """Load the recipe's data.

    Raises:
        RecipeError: if the data are not there, or cannot be as the recipe says.
    """
    data = recipe.data
    with _blaming_the_data(recipe):
        return load_data(
            data.dataset,
            root=data.root,
            image_size=data.image_size,
            levels=data.levels,
            train_size=data.train_size,
            validation_size=data.validation_size,
            test_size=data.test_size,
            channels=data.channels,
            columns=data.columns,
            variant=data.variant,
            standardize=data.standardize,
            checksums=data.checksums,
            seed=recipe.seed,
            on_bad_file=data.on_bad_file,
            condition=data.condition,
            condition_columns=data.condition_columns,
        )


def standardize_by(splits: Splits, model: MultiscaleFlow) -> None:
    """Tell a model that standardises its data by what; it takes them as they are until then."""
    conditions = None if splits.conditions is None else splits.conditions.scaling
    _take_units(splits.scaling, standardizing(model))
    if model.preprocess_condition is not None:
        _take_units(conditions, standardizing(model.preprocess_condition))


def _take_units(scaling: Scaling | None, steps: Sequence[Standardize]) -> None:
    for step in steps:
        if scaling is not None:
            step.set(scaling.shift, scaling.scale, scaling.rounding)


def as_taken(splits: Splits, model: MultiscaleFlow) -> Splits:
    """Return the samples in the units that a model takes.

    They are standardised beforehand for a model that was trained when models did not do so
    themselves, though its recipe says `standardize = true`.
    """
    return splits if standardizing(model) else splits.standardised()


@contextmanager
def _blaming_the_data(recipe: Recipe) -> Iterator[None]:
    """Say of an error of the data set that the recipe's table asked for it."""
    try:
        yield
    except DataError as error:
        raise problem_at(recipe.name, "data", str(error)) from error


def build_model(recipe: Recipe, event: Event | None = None) -> MultiscaleFlow:
    """Build the recipe's flow, untrained; of 64 bits where the recipe trains in them, else of 32.

    Args:
        recipe: The recipe.
        event: What one sample looks like; left out, the data set is asked.

    Raises:
        RecipeError: if the model does not fit the data, naming the scale and the shapes.

    Example:
        >>> from rnode_dyn import load_recipe
        >>> model = build_model(load_recipe("quickstart"))
        >>> model.event_shape
        (1, 8, 8)
    """
    event = describe_event(recipe) if event is None else event
    shape, scales = event.shape, []
    for number, scale in enumerate(_scale_recipes(recipe, event)):
        key = f"model.scale.{number}" if recipe.model.scale else "model.scales"
        try:
            parts = recipe.for_scale(number)
            built, shape = _build_scale(recipe, parts, scale, shape, _condition_of(recipe, event))
        except MisfitError as error:
            key = f"model.scale.{number}" if _has_own_field(recipe, number) else "model"
            raise problem_at(recipe.name, f"{key}.{error.key}", str(error)) from error
        except ValueError as error:
            raise problem_at(recipe.name, key, f"scale {number}: {error}") from error
        scales.append(built)
    units = _units_of_condition(recipe, event)
    flow = MultiscaleFlow(event.shape, scales, build_preprocess(recipe, event), units)
    return flow.double() if recipe.train.precision == "64-true" else flow


def _condition_of(recipe: Recipe, event: Event) -> _Given:
    """What a field is built with for the event's condition; nothing where there is none."""
    if not event.is_conditional:
        return {}
    table = recipe.model.condition
    given: _Given = {"condition": event.columns, "classes": event.classes}
    if table is None:
        return given
    return {**given, "embedding": table.embedding, "label_dropout": table.dropout or 0.0}


def _units_of_condition(recipe: Recipe, event: Event) -> Transform | None:
    if event.columns is None or not recipe.data.standardize:
        return None
    return Standardize(torch.zeros(event.columns), torch.ones(event.columns))


def _scale_recipes(recipe: Recipe, event: Event) -> Sequence[ScaleRecipe]:
    if recipe.model.scale:
        return recipe.model.scale
    blocks, count = recipe.model.blocks, recipe.model.scales
    if count in (None, 1):
        return [ScaleRecipe(blocks=blocks)]
    if len(event.shape) != 3:
        what = '"auto" is' if count == "auto" else f"{count} scales are"
        raise problem_at(
            recipe.name,
            "model.scales",
            f"{what} for images, and a sample of {recipe.data.dataset} has shape "
            f"{event.shape}: drop it",
        )
    count = _count_scales(event.shape) if count == "auto" else count
    inner = ScaleRecipe(blocks=blocks, squeeze=True, split=True)
    return [inner] * (count - 1) + [ScaleRecipe(blocks=blocks)]


def _has_own_field(recipe: Recipe, number: int) -> bool:
    return bool(recipe.model.scale) and recipe.model.scale[number].field is not None


def _count_scales(shape: Sequence[int]) -> int:
    """One scale for every halving that leaves 4 pixels or more, as the paper's models have it."""
    side, count = min(shape[1:]), 1
    while side // 2 >= 4:
        side, count = side // 2, count + 1
    return count


def _build_scale(
    recipe: Recipe,
    parts: ScaleParts,
    scale: ScaleRecipe,
    shape: tuple[int, ...],
    given: _Given,
) -> tuple[Scale, tuple[int, ...]]:
    """Build one scale; return it with the shape of what goes on to the next."""
    end = build_end(recipe.model.end_time)
    before = [_build_block(parts, shape, end, given) for _ in range(scale.blocks)]
    if scale.squeeze:
        shape = Squeeze().forward_shape(shape)
    after = [_build_block(parts, shape, end, given) for _ in range(scale.blocks_after or 0)]
    built = Scale(before, after, squeeze=scale.squeeze, split=scale.split)
    if scale.split:
        if shape[0] % 2:
            raise ValueError(
                f"a sample of shape {shape} cannot be split in half along its first axis: "
                "squeeze = true before the split makes four channels of one"
            )
        shape = (shape[0] // 2, *shape[1:])
    return built, shape


def _build_block(
    parts: ScaleParts, shape: tuple[int, ...], end: EndTime, given: _Given
) -> RegularizedFlow:
    end_time = as_float(end)
    sensitivity = build_sensitivity(parts.solver)
    evaluation = parts.divergence.eval
    return RegularizedFlow(
        build_field(parts.field, shape, given),
        solver=build_solver(parts.solver, sensitivity, end_time),
        divergence=build_divergence(parts.divergence),
        regularizers=build_regularizers(parts.regularizers),
        end_time=end,
        eval_solver=build_solver(parts.solver.eval, sensitivity, end_time),
        eval_divergence=None if evaluation is None else build_divergence(evaluation),
        quadrature=build_quadrature(parts.solver.quadrature),
        penalty_quadrature=build_quadrature(parts.solver.penalty_quadrature),
    )


class MisfitError(ValueError):
    """A key of a field does not fit the samples.

    Args:
        key: The key, from the scale's tables on.
        reason: Why, and what to write instead.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def build_field(field: FieldRecipe, shape: Sequence[int], given: _Given | None = None) -> nn.Module:
    """Build a field for samples of this shape.

    Args:
        field: The recipe's field.
        shape: Shape of a sample.
        given: What says which condition it takes, as the field's class has it.

    Raises:
        ValueError: if the field is for images and the samples are none.
        MisfitError: if a U-Net has more levels than they can have.
    """
    hidden, activation = field.hidden or (), field.activation
    if field.kind == "mlp":
        return MLPField(shape, hidden, activation, **(given or {}))
    if len(shape) != 3:
        raise ValueError(
            f'field kind "{field.kind}" takes images, and a sample has shape {tuple(shape)}: '
            'write model.field.kind = "mlp"'
        )
    if field.kind == "conv":
        return ConvField(shape[0], hidden, activation, **(given or {}))
    return _build_unet(field, shape, given or {})


def _build_unet(field: FieldRecipe, shape: Sequence[int], given: _Given) -> UNetField:
    assert field.width is not None  # the schema's defaults
    assert field.levels is not None
    assert field.growth is not None
    assert field.depth is not None
    try:
        check_fits(shape, field.levels)
    except ValueError as error:
        raise MisfitError("field.levels", str(error)) from error
    return UNetField(
        shape[0],
        field.width,
        field.levels,
        bool(field.attention),
        field.activation,
        growth=field.growth,
        depth=field.depth,
        skip=bool(field.skip),
        **given,
    )
