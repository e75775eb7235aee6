"""The `[model]` table with its scales, and the `[regularizers]`: what is trained."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rnode_dyn.recipe.divergence import DivergenceRecipe
from rnode_dyn.recipe.names import UNET_KEYS, ActivationName, FieldKind
from rnode_dyn.recipe.solver import SolverRecipe
from rnode_dyn.recipe.tables import Count, NonNegative, Positive, Table, broken_rule

_GROUPS = 8
"""Groups in which a U-Net's channels are normalised: they must divide its width."""


def _default_of_a_unet(value: Any, other: Any = None) -> Any:
    """A field with `value` as its default with `kind = "unet"`, and `other` else."""
    return Field(default_factory=lambda earlier: value if earlier.get("kind") == "unet" else other)


class FieldRecipe(Table):
    """The vector field f(t, x).

    Example:
        >>> FieldRecipe().hidden, FieldRecipe(kind="unet").hidden, FieldRecipe(kind="unet").width
        ((64, 64, 64), None, 32)
    """

    kind: FieldKind = "conv"
    """Convolutions or a U-Net for images, or a multilayer perceptron for vectors."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] | None = (
        _default_of_a_unet(None, (64, 64, 64))
    )
    """Width of each hidden layer: channels or units; not with `kind = "unet"`."""

    width: Count | None = _default_of_a_unet(32)
    """Channels at the image's own size, a multiple of 8; only with `kind = "unet"`."""

    levels: Count | None = _default_of_a_unet(3)
    """Sizes at which the image is seen, each half of the last; only with `kind = "unet"`."""

    growth: Count | None = _default_of_a_unet(2)
    """What each further size multiplies the channels by; only with `kind = "unet"`."""

    depth: Count | None = _default_of_a_unet(1)
    """Residual blocks of each size, on the way down and up; only with `kind = "unet"`."""

    attention: bool | None = _default_of_a_unet(False)
    """Whether pixels of the smallest size attend to each other; only with `kind = "unet"`."""

    skip: bool | None = _default_of_a_unet(False)
    """Whether the velocity between normal samples is added; only with `kind = "unet"`."""

    activation: ActivationName = _default_of_a_unet("silu", "softplus")
    """The function between layers; smooth ones suit the solver."""

    @model_validator(mode="after")
    def _has_no_others_keys(self) -> Self:
        is_unet = self.kind == "unet"
        for key in ("hidden",) if is_unet else UNET_KEYS:
            given = getattr(self, key)
            mend = "say width and levels instead" if is_unet else 'drop it, or say kind = "unet"'
            if given is not None:
                raise broken_rule(key, f'kind = "{self.kind}" has no such key: {mend}', given)
        return self

    @model_validator(mode="after")
    def _groups_divide_the_width(self) -> Self:
        if self.width is not None and self.width % _GROUPS:
            nearest = max(_GROUPS, round(self.width / _GROUPS) * _GROUPS)
            reason = f"channels are normalised in {_GROUPS} groups: say {nearest}"
            raise broken_rule("width", reason, self.width)
        return self


class ConditionRecipe(Table):
    """How the field is told of the data's condition."""

    embedding: Count | None = None
    """Numbers that a condition is embedded in; absent: vectors as they are, labels in 32."""

    dropout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """How probably a training label is left out, for guidance; only with `data.condition`."""


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

    taylor_derivative: NonNegative = 0.0
    """Weight of ½·mean (dᴷx/dtᴷ)²: a higher derivative of the trajectory."""

    taylor_order: Count = 3
    """K, the order of that derivative."""

    error_estimate: NonNegative = 0.0
    """Weight of Σ h·‖e‖: the solver's estimates of its steps' errors."""

    stiffness: NonNegative = 0.0
    """Weight of Σ h·‖Δf‖/‖Δx‖: the solver's estimates of the field's stiffness."""

    trajectory_polynomial: NonNegative = 0.0
    """Weight of the mean square by which states miss a polynomial in time."""

    trajectory_degree: Count = 1
    """Degree of that polynomial; 1: a straight line at constant speed."""


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

    bells: Annotated[tuple[Count, Count], Field(strict=False)] | None = None
    """Instead of the logit: how many levels are the dark and the bright end of three bells."""

    scales: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] | None = None
    """How many, or as many as the image allows, as in the paper; or give `[[model.scale]]`."""

    blocks: Count = 1
    """Continuous blocks: of the one scale, or of each of `scales`."""

    end_time: Positive | Annotated[tuple[Positive, Positive], Field(strict=False)] = 1.0
    """The time T at which a block's flow ends; it starts at 0. Two: drawn between in training."""

    field: FieldRecipe = FieldRecipe()
    """The vector field of every block."""

    condition: ConditionRecipe | None = None
    """How the condition is embedded; only with `data.condition` or `data.condition_columns`."""

    scale: Annotated[tuple[ScaleRecipe, ...], Field(strict=False)] = ()
    """The scales one by one, first to last, as `[[model.scale]]` tables."""

    @model_validator(mode="after")
    def _one_way_to_space(self) -> Self:
        if self.bells is not None and self.logit_alpha is not None:
            reason = "it takes pixels to space, and so does logit_alpha: say one of the two"
            raise broken_rule("bells", reason, self.bells)
        return self

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        if isinstance(self.end_time, tuple) and not self.end_time[0] < self.end_time[1]:
            reason = "the earlier end comes first: say two ends in order, or one number"
            raise broken_rule("end_time", reason, self.end_time)
        return self

    @model_validator(mode="after")
    def _scales_are_said_once(self) -> Self:
        if self.scale and self.scales:
            said = '"auto"' if self.scales == "auto" else self.scales
            reason = f"scales = {said} and [[model.scale]] both say what the scales are: drop one"
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
