"""The recipe as frozen objects: its tables, their keys, defaults, bounds and rules.

Example:
    >>> recipe = Recipe(name="two-moons", data=DataRecipe(dataset="moons"))
    >>> recipe.solver.algorithm, recipe.solver.step, recipe.train.epochs
    ('rk4', 0.25, 100)
"""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from rnode_dyn._notebook import shown_by
from rnode_dyn.recipe.data import DataRecipe
from rnode_dyn.recipe.divergence import DivergenceRecipe, EvalDivergenceRecipe
from rnode_dyn.recipe.model import FieldRecipe, ModelRecipe, RegularizersRecipe, ScaleRecipe
from rnode_dyn.recipe.names import (
    DATASETS,
)
from rnode_dyn.recipe.naming import fault_in, nearest_right
from rnode_dyn.recipe.plugins import LoggerRecipe, OptimizerRecipe
from rnode_dyn.recipe.quadrature import QuadratureRecipe
from rnode_dyn.recipe.scales import complete_scales
from rnode_dyn.recipe.solve_penalties import fault_between
from rnode_dyn.recipe.solver import EvalSolverRecipe, SolverRecipe
from rnode_dyn.recipe.tables import (
    Count,
    Positive,
    Table,
    Text,
    broken_rule,
)
from rnode_dyn.recipe.train import GovernorRecipe, StageRecipe, TrainRecipe

__all__ = [
    "DATASETS",
    "DataRecipe",
    "DivergenceRecipe",
    "EvalDivergenceRecipe",
    "EvalSolverRecipe",
    "FieldRecipe",
    "GovernorRecipe",
    "LoggerRecipe",
    "ModelRecipe",
    "OptimizerRecipe",
    "QuadratureRecipe",
    "Recipe",
    "RegularizersRecipe",
    "SamplesRecipe",
    "ScaleParts",
    "ScaleRecipe",
    "SolverRecipe",
    "StageRecipe",
    "TrainRecipe",
]


_LONGEST_NAME = 100


class SamplesRecipe(Table):
    """The samples that a run draws."""

    count: Count = 100
    """Samples in a grid; there is one grid for each temperature."""

    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1, strict=False)] = (
        0.7,
        0.8,
        0.9,
        1.0,
    )
    """Scales of the standard deviation of the noise that samples start from."""

    every: Count | None = None
    """Epochs between two grids while training; absent: one at the end."""


class ScaleParts(NamedTuple):
    """What the blocks of one scale are built from."""

    field: FieldRecipe
    solver: SolverRecipe
    divergence: DivergenceRecipe
    regularizers: RegularizersRecipe


class Recipe(Table):
    """A whole experiment: data, model, solver, divergence, penalties, training, samples."""

    name: Text
    """The recipe's name, and how its run folders' names begin; without spaces by custom."""

    title: str = ""
    """One line for people."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of every random number of the run."""

    data: DataRecipe
    model: ModelRecipe = ModelRecipe()
    solver: SolverRecipe = SolverRecipe()
    divergence: DivergenceRecipe = DivergenceRecipe()
    regularizers: RegularizersRecipe = RegularizersRecipe()
    train: TrainRecipe = TrainRecipe()
    samples: SamplesRecipe = SamplesRecipe()

    @field_validator("name")
    @classmethod
    def _name_is_no_path(cls, given: str) -> str:
        fault = fault_in(given)
        if fault:
            raise broken_rule("", fault, given, nearest_right(given))
        return given

    @model_validator(mode="before")
    @classmethod
    def _complete_scales(cls, given: Any) -> Any:
        return complete_scales(given)

    @model_validator(mode="after")
    def _name_is_a_folders(self) -> Self:
        if len(self.name) > _LONGEST_NAME or "/" in self.name or "\\" in self.name:
            reason = f"folders are named after it: at most {_LONGEST_NAME} characters, no / or \\"
            raise broken_rule("name", reason, self.name)
        return self

    @model_validator(mode="after")
    def _condition_is_there(self) -> Self:
        if self.model.condition is not None and not self.data.is_conditional:
            reason = (
                "the data have no condition to embed: drop the table, or say data.condition or "
                "data.condition_columns"
            )
            raise broken_rule("model.condition", reason)
        return self

    @model_validator(mode="after")
    def _labels_are_there_to_be_left_out(self) -> Self:
        dropout = None if self.model.condition is None else self.model.condition.dropout
        if dropout is not None and self.data.condition is None:
            reason = "columns are no labels, of which some could be left out: drop it"
            raise broken_rule("model.condition.dropout", reason, dropout)
        return self

    @model_validator(mode="after")
    def _governor_has_steps_to_govern(self) -> Self:
        governed = self.governed_scales
        if self.train.governor is not None and not governed:
            reason = 'no solver has step = "auto": drop the table, or say solver.step = "auto"'
            raise broken_rule("train.governor", reason)
        if governed and all(stage.objective != "likelihood" for stage in self.train.stages):
            own = self.model.scale and self.model.scale[governed[0]].solver
            key = f"model.scale.{governed[0]}.solver.step" if own else "solver.step"
            reason = "no stage solves the flow: say a number, or add a stage of the likelihood"
            raise broken_rule(key, reason, "auto")
        return self

    @model_validator(mode="after")
    def _what_is_matched_again_goes_whole(self) -> Self:
        splits = self.model.scales not in (None, 1) or any(s.split for s in self.model.scale)
        for number, stage in enumerate(self.train.stage):
            if splits and stage.coupling == "reflow":
                reason = "the flow's pairs are of samples that no scale splits: say scales = 1"
                raise broken_rule(f"train.stage.{number}.coupling", reason, "reflow")
        return self

    @model_validator(mode="after")
    def _a_skip_goes_all_the_way(self) -> Self:
        model = self.model
        key = next((f"scale.{n}.field" for n, s in enumerate(model.scale) if _skips(s.field)), "")
        if not (key or _skips(model.field)):
            return self
        whole = model.scales in (None, 1) and model.blocks == 1 and not model.scale
        if not (whole and model.end_time == 1.0):
            reason = "the velocity is that of a single block that ends at 1: drop it, or say "
            mend = "scales = 1, blocks = 1 and end_time = 1.0"
            raise broken_rule(f"model.{key or 'field'}.skip", reason + mend, True)
        return self

    @model_validator(mode="after")
    def _what_is_expected_is_known(self) -> Self:
        for number, stage in enumerate(self.train.stage):
            if stage.targets != "expected":
                continue
            key = f"train.stage.{number}.targets"
            if self.model.bells is None:
                reason = "a pixel's noise is a piece of a bell curve behind model.bells alone: say "
                raise broken_rule(key, reason + 'it, or targets = "drawn"', "expected")
            if self.data.dequantization == "variational":
                reason = 'learned noise is no piece of a bell curve: say targets = "drawn"'
                raise broken_rule(key, reason, "expected")
        return self

    @model_validator(mode="after")
    def _pieces_make_up_a_batch(self) -> Self:
        size, key = self.train.micro_batch, "train.micro_batch"
        if size is None:
            return self
        solving = [stage for stage in self.train.stages if stage.objective == "likelihood"]
        if not solving:
            raise broken_rule(key, "no stage solves the flow: drop it", size)
        for batch in map(self.batch_size, solving):
            if size != "auto" and batch % size:
                fits = max(n for n in range(1, batch + 1) if batch % n == 0 and n <= size)
                reason = f'a batch of {batch} is not made up of such pieces: say {fits}, or "auto"'
                raise broken_rule(key, reason, size)
        return self

    @model_validator(mode="after")
    def _penalties_go_with_the_solver(self) -> Self:
        for number in range(len(self.model.scale) or 1):
            parts = self.for_scale(number)
            fault = fault_between(parts.regularizers, parts.solver)
            if fault is not None:
                own = self.model.scale and self.model.scale[number].regularizers
                table = f"model.scale.{number}.regularizers" if own else "regularizers"
                given = getattr(parts.regularizers, fault[0])
                raise broken_rule(f"{table}.{fault[0]}", fault[1], given)
        return self

    @model_validator(mode="after")
    def _what_is_solved_can_be_compiled(self) -> Self:
        solved = any(stage.objective == "likelihood" for stage in self.train.stages)
        if not (self.train.compile and solved):
            return self
        parts = [self.for_scale(k) for k in range(len(self.model.scale) or 1)]
        if any(part.field.kind == "unet" for part in parts):
            what = "a U-Net's products are autograd's"
        elif any(part.regularizers.directional_derivative for part in parts):
            what = "regularizers.directional_derivative differentiates the field by autograd"
        else:
            return self
        reason = f"{what}, and torch cannot differentiate a compiled field twice: drop it"
        raise broken_rule("train.compile", reason, True)

    _repr_html_ = shown_by("recipe_html")

    def batch_size(self, stage: StageRecipe) -> int:
        """Samples per step and device in a stage."""
        return stage.batch_size or self.data.batch_size

    def given_micro_batch(self, stage: StageRecipe) -> int | None:
        """Samples that are solved at once in a stage, where that is given as a number."""
        solves = stage.objective == "likelihood" and self.train.micro_batch != "auto"
        return self.train.micro_batch if solves else None  # type: ignore[return-value]

    @property
    def governed_scales(self) -> tuple[int, ...]:
        """The scales whose solver has `step = "auto"`; without `[[model.scale]]`, (0,) for all."""
        count = len(self.model.scale) or 1
        return tuple(k for k in range(count) if self.for_scale(k).solver.step == "auto")

    def for_scale(self, index: int) -> ScaleParts:
        """What scale `index` is built from: its own tables, else the recipe's.

        Args:
            index: The scale's place from 0; without `[[model.scale]]` tables any is the same.

        Example:
            >>> scale = {"blocks": 1, "solver": {"step": 0.1}}
            >>> recipe = Recipe(
            ...     name="x", data={"dataset": "fake"}, model={"scale": [scale]}
            ... )
            >>> recipe.for_scale(0).solver.step, recipe.for_scale(0).solver.algorithm
            (0.1, 'rk4')
        """
        scale = self.model.scale[index] if self.model.scale else ScaleRecipe()
        return ScaleParts(
            field=scale.field or self.model.field,
            solver=scale.solver or self.solver,
            divergence=scale.divergence or self.divergence,
            regularizers=scale.regularizers or self.regularizers,
        )


def _skips(field: FieldRecipe | None) -> bool:
    return field is not None and bool(field.skip)
