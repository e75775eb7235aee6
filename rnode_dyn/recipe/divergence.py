"""The `[divergence]` and `[divergence.eval]` tables: how the trace of ∂f/∂x is found."""

from typing import Self

from pydantic import Field, model_validator

from rnode_dyn.recipe.names import EstimatorName, NoiseName
from rnode_dyn.recipe.tables import Count, Table, broken_rule


class EvalDivergenceRecipe(Table):
    """How the divergence of the field is found, estimated by random probes or exactly."""

    estimator: EstimatorName = "hutchinson"
    """Hutchinson's estimate, or the exact trace (one product per dimension)."""

    noise: NoiseName | None = Field(
        default_factory=lambda earlier: (
            "gaussian" if earlier.get("estimator") == "hutchinson" else None
        )
    )
    """Distribution of the probes; only with `estimator = "hutchinson"`."""

    probes: Count | None = Field(
        default_factory=lambda earlier: 1 if earlier.get("estimator") == "hutchinson" else None
    )
    """Random probes per solve; only with `estimator = "hutchinson"`."""

    @model_validator(mode="after")
    def _exact_needs_no_probes(self) -> Self:
        mend = 'drop it, or say estimator = "hutchinson"'
        reason = f"the exact divergence draws no random probes: {mend}"
        for key in ("noise", "probes"):
            given = getattr(self, key)
            if self.estimator == "exact" and given is not None:
                raise broken_rule(key, reason, given)
        return self


class DivergenceRecipe(EvalDivergenceRecipe):
    """The divergence in training, and within it the one in evaluation.

    Example:
        >>> DivergenceRecipe().noise
        'gaussian'
        >>> DivergenceRecipe(estimator="exact").probes is None
        True
    """

    eval: EvalDivergenceRecipe | None = None
    """The divergence in evaluation; absent: as in training."""
