"""The `[solver]` and `[solver.eval]` tables: the algorithm, its steps, its gradients."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rnode_dyn.recipe.names import (
    ADAPTIVE_KEYS,
    BY_SAMPLE,
    FIXED_ALGORITHMS,
    AlgorithmName,
    NormName,
    SensitivityName,
)
from rnode_dyn.recipe.quadrature import QuadratureRecipe
from rnode_dyn.recipe.tables import Count, Positive, Table, broken_rule

DEFAULT_STEP = 0.25


def _default_when_adaptive(value: float | str | bool) -> Any:
    """A field with `value` as its default, unless a fixed step is given."""

    def default(earlier: dict[str, Any]) -> Any:
        fixed = earlier.get("step") is not None or earlier.get("algorithm") in FIXED_ALGORITHMS
        return None if fixed else value

    return Field(default_factory=default)


class SteppingRecipe(Table):
    """How to step through time: a fixed `step`, or steps chosen to meet tolerances."""

    algorithm: AlgorithmName = "rk4"
    """The Runge-Kutta method."""

    step: Positive | None = None
    """Length of every step, in units of time; absent: the algorithm chooses its own steps."""

    rtol: Positive | None = _default_when_adaptive(1e-5)
    """Relative tolerance of an adaptive step."""

    atol: Positive | None = _default_when_adaptive(1e-5)
    """Absolute tolerance of an adaptive step, in units of the state."""

    first_step: Positive | None = None
    """Length of the first adaptive step, in units of time; absent: estimated."""

    max_steps: Count | None = _default_when_adaptive(10_000)
    """Adaptive steps, rejected ones included, after which the solve gives up."""

    norm: NormName | None = _default_when_adaptive("rms")
    """How a batch's errors become one number: their mean square, or the worst sample's."""

    per_sample: bool | None = _default_when_adaptive(False)
    """Whether each sample of a batch accepts and rejects adaptive steps by itself."""

    @property
    def adaptive(self) -> bool:
        """Whether the algorithm chooses its own steps."""
        return self.step is None

    @model_validator(mode="after")
    def _fixed_or_adaptive(self) -> Self:
        given = [key for key in ADAPTIVE_KEYS if getattr(self, key) is not None]
        if self.algorithm in FIXED_ALGORITHMS and (given or self.step is None):
            raise broken_rule("algorithm", self._without_estimate(given), self.algorithm)
        if given and self.step is not None:
            reason = f"steps are fixed or adaptive, not both: drop step, or drop {_listed(given)}"
            raise broken_rule("step", reason, self.step)
        return self

    @model_validator(mode="after")
    def _one_norm_or_one_each(self) -> Self:
        if self.per_sample and self.norm != "rms":
            reason = "with per_sample each sample has an error of its own: drop norm"
            raise broken_rule("norm", reason, self.norm)
        return self

    def _without_estimate(self, given: list[str]) -> str:
        mends = [f"add step, such as step = {DEFAULT_STEP}"] if self.step is None else []
        mends += [f"drop {_listed(given)}"] if given else []
        mend = " and ".join(mends)
        return f"{self.algorithm} has no error estimate and takes fixed steps only: {mend}"


class EvalSolverRecipe(SteppingRecipe):
    """The solver of evaluation and sampling, where accuracy counts more than time."""

    algorithm: AlgorithmName = "dopri5"
    """The Runge-Kutta method."""


class SolverRecipe(SteppingRecipe):
    """The solver of training, and within it the one of evaluation.

    Example:
        >>> SolverRecipe().step
        0.25
        >>> adaptive = SolverRecipe(algorithm="tsit5", atol=1e-6)
        >>> adaptive.adaptive, adaptive.rtol, adaptive.atol
        (True, 1e-05, 1e-06)
    """

    step: Positive | Literal["auto"] | None = None  # type: ignore[assignment]
    """Length of every step, or as few steps as solve the flow; absent: the algorithm chooses."""

    sensitivity: SensitivityName = "checkpointed"
    """How gradients pass through the solve."""

    checkpoint_every: Count | None = Field(
        default_factory=lambda earlier: 1 if earlier.get("sensitivity") == "checkpointed" else None
    )
    """Steps between two stored states; only with `sensitivity = "checkpointed"`."""

    quadrature: QuadratureRecipe | None = None
    """Where the log-determinant is integrated, and the penalties with it; absent: at the stages."""

    penalty_quadrature: QuadratureRecipe | None = None
    """Where the penalties are integrated, if elsewhere."""

    eval: EvalSolverRecipe = EvalSolverRecipe()
    """The solver of evaluation and sampling."""

    @model_validator(mode="before")
    @classmethod
    def _default_steps(cls, given: Any) -> Any:
        """Give the default algorithm its default step, where nothing is said of either."""
        said = {"algorithm", "step", *ADAPTIVE_KEYS}
        if isinstance(given, dict) and said.isdisjoint(given):
            return {**given, "step": DEFAULT_STEP}
        return given

    @model_validator(mode="after")
    def _each_sample_is_differentiated(self) -> Self:
        if not (self.per_sample or self.eval.per_sample):
            return self
        if self.sensitivity not in BY_SAMPLE:
            reason = (
                "it steps the whole batch together, and with per_sample each sample steps by "
                f"itself: write one of {_listed(list(BY_SAMPLE))}, or drop per_sample"
            )
            raise broken_rule("sensitivity", reason, self.sensitivity)
        if self.checkpoint_every not in (None, 1):
            reason = "with per_sample the state of every step is stored: drop checkpoint_every"
            raise broken_rule("checkpoint_every", reason, self.checkpoint_every)
        return self

    @model_validator(mode="after")
    def _checkpoints_are_used(self) -> Self:
        if self.checkpoint_every is not None and self.sensitivity != "checkpointed":
            mend = 'drop it, or say sensitivity = "checkpointed"'
            reason = f"{self.sensitivity} stores no checkpoints: {mend}"
            raise broken_rule("checkpoint_every", reason, self.checkpoint_every)
        return self

    @model_validator(mode="after")
    def _penalties_spare_the_stages(self) -> Self:
        of_log_det, of_penalties = self.quadrature, self.penalty_quadrature
        if of_log_det is None or of_penalties is None:
            return self
        if of_penalties.rule == "stages" and of_log_det.rule != "stages":
            reason = "there the penalties take what quadrature is to spare: say nodes for both"
            raise broken_rule("penalty_quadrature.rule", reason, "stages")
        return self


def _listed(keys: list[str]) -> str:
    return ", ".join(keys)
