"""The recipe as frozen objects: its tables, their keys, defaults, bounds and rules.

Example:
    >>> recipe = Recipe(name="two-moons", data=DataRecipe(dataset="moons"))
    >>> recipe.solver.algorithm, recipe.solver.step, recipe.train.epochs
    ('rk4', 0.25, 100)
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from rnode_dyn.recipe.divergence import DivergenceRecipe, EvalDivergenceRecipe
from rnode_dyn.recipe.names import (
    DATASETS,
    ActivationName,
    DatasetName,
    FieldKind,
)
from rnode_dyn.recipe.scales import complete_scales
from rnode_dyn.recipe.solver import EvalSolverRecipe, SolverRecipe
from rnode_dyn.recipe.tables import (
    Count,
    NonNegative,
    NonNegativeInt,
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
    "ModelRecipe",
    "Recipe",
    "RegularizersRecipe",
    "SamplesRecipe",
    "ScaleParts",
    "ScaleRecipe",
    "SolverRecipe",
    "StageRecipe",
    "TrainRecipe",
]


_ONLY_WITH = {
    "channels": ("has its own", ("fake", "folder")),
    "columns": ("has as many as it has", ("npy",)),
    "standardize": ("has a scale of its own", ("npy",)),
    "variant": ("has only one", ("imagenet64",)),
}
"""Keys of `[data]` that belong to some data sets: what is said of others, and those sets."""


class DataRecipe(Table):
    """The data: which set, how much of it, and how it is batched."""

    dataset: DatasetName
    """The data set's name."""

    variant: Text | None = None
    """The published variant that the files have to be; only with `dataset = "imagenet64"`."""

    root: Text = "data"
    """Folder of the data; with `dataset = "picture"` an image file."""

    image_size: Count | None = None
    """Height and width of the images, in pixels; absent: the data set's own."""

    levels: Annotated[int, Field(ge=2)] | None = None
    """Values a pixel can take, such as 256; absent: the data set's own, if it has any."""

    channels: Count | None = None
    """Channels of the images; only with `dataset = "fake"` or `"folder"`."""

    columns: Count | None = None
    """Columns that the files have to have; only with `dataset = "npy"`; absent: any number."""

    standardize: bool = False
    """Whether columns get the training split's mean 0 and deviation 1; only with `"npy"`."""

    batch_size: Count = 200
    """Training points per step and device."""

    eval_batch_size: Count | None = None
    """Points per batch in evaluation; absent: `batch_size`."""

    train_size: Count | None = None
    """Training points to use or draw; absent: all, or the data set's own number."""

    validation_size: Count | None = None
    """Validation points to use or draw; absent: the data set's own number."""

    test_size: Count | None = None
    """Test points to use or draw; absent: all, or the data set's own number."""

    flips: bool = False
    """Whether half of the training images are mirrored left to right, at random."""

    workers: NonNegativeInt = 0
    """Processes that decode images or read mapped ones; 0: the training process does."""

    checksums: dict[str, Text] = Field(default_factory=dict)
    """For files below `root` the `md5:`, `sha256:` or `images:` that they have to have."""

    @model_validator(mode="after")
    def _has_no_others_keys(self) -> Self:
        for key, (what, sets) in _ONLY_WITH.items():
            given = getattr(self, key)
            if given and self.dataset not in sets:
                reason = f"{self.dataset} {what}: drop it (it goes with {' and '.join(sets)})"
                raise broken_rule(key, reason, given)
        return self


class FieldRecipe(Table):
    """The vector field f(t, x)."""

    kind: FieldKind = "conv"
    """Convolutions for images, or a multilayer perceptron for vectors."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (64, 64, 64)
    """Width of each hidden layer: channels or units."""

    activation: ActivationName = "softplus"
    """The function between layers; smooth ones suit the solver."""


class RegularizersRecipe(Table):
    """Weights of the penalties along the trajectory; 0 turns one off."""

    kinetic_energy: NonNegative = 0.0
    """Weight of ½·mean f²: straight paths at constant speed."""

    jacobian_frobenius: NonNegative = 0.0
    """Weight of mean (εᵀ∂f/∂x)²: a field that varies little in space."""

    directional_derivative: NonNegative = 0.0
    """Weight of ½·mean ((∂f/∂x) f)²: acceleration from the field's change in space."""

    total_derivative: NonNegative = 0.0
    """Weight of ½·mean (∂f/∂t + (∂f/∂x) f)²: all of the acceleration."""


class ScaleRecipe(Table):
    """One scale of a multiscale flow: blocks, a squeeze, blocks again, a split.

    The tables `field`, `solver`, `divergence` and `regularizers` say only what differs from the
    recipe's own. Within a recipe each one that is given has been completed from there.
    """

    blocks: Count = 2
    """Continuous blocks, before the squeeze if there is one."""

    squeeze: bool = False
    """Whether 2×2 pixels then become one pixel of four times the channels."""

    blocks_after: Count | None = Field(
        default_factory=lambda earlier: earlier.get("blocks") if earlier.get("squeeze") else None
    )
    """Continuous blocks after the squeeze; only with `squeeze = true`, and then as `blocks`."""

    split: bool = False
    """Whether half of the channels leave the flow at the end of the scale."""

    field: FieldRecipe | None = None
    """What differs from `[model.field]` in this scale."""

    solver: SolverRecipe | None = None
    """What differs from `[solver]` in this scale."""

    divergence: DivergenceRecipe | None = None
    """What differs from `[divergence]` in this scale."""

    regularizers: RegularizersRecipe | None = None
    """What differs from `[regularizers]` in this scale."""

    @model_validator(mode="after")
    def _after_needs_squeeze(self) -> Self:
        if self.blocks_after is not None and not self.squeeze:
            reason = "there is nothing to come after: drop it, or say squeeze = true"
            raise broken_rule("blocks_after", reason, self.blocks_after)
        return self


class ModelRecipe(Table):
    """The flow: the transform before it, its scales and blocks, its field."""

    logit_alpha: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """Squeeze into [α, 1−α] before the logit; 0: shift to zero mean instead; absent: neither."""

    scales: Literal["auto"] | None = None
    """As many scales as the image allows, as the paper has them; or give `[[model.scale]]`."""

    blocks: Count = 1
    """Continuous blocks: of the one scale, or with `scales = "auto"` of each."""

    end_time: Positive = 1.0
    """The time T at which a block's flow ends; it starts at 0."""

    field: FieldRecipe = FieldRecipe()
    """The vector field of every block."""

    scale: Annotated[tuple[ScaleRecipe, ...], Field(strict=False)] = ()
    """The scales one by one, first to last, as `[[model.scale]]` tables."""

    @model_validator(mode="after")
    def _scales_are_said_once(self) -> Self:
        if self.scale and self.scales:
            reason = 'scales = "auto" and [[model.scale]] both say what the scales are: drop one'
            raise broken_rule("scales", reason, self.scales)
        if self.scale and self.blocks != 1:
            reason = "each [[model.scale]] has blocks of its own: say it there"
            raise broken_rule("blocks", reason, self.blocks)
        return self

    @model_validator(mode="after")
    def _last_scale_keeps_all(self) -> Self:
        if self.scale and self.scale[-1].split:
            reason = "the last scale has none after it to go on with the other half: drop it"
            raise broken_rule(f"scale.{len(self.scale) - 1}.split", reason, True)
        return self


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
    """The recipe's name, without spaces by custom."""

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

    @model_validator(mode="before")
    @classmethod
    def _complete_scales(cls, given: Any) -> Any:
        return complete_scales(given)

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
