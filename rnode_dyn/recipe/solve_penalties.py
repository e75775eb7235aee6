"""Penalties of a solve's steps and states, and the solvers that they go with."""

from collections.abc import Iterator

from rnode_dyn.recipe.model import RegularizersRecipe
from rnode_dyn.recipe.names import COMPARES_STAGES, FIXED_ALGORITHMS, OF_THE_STEPS
from rnode_dyn.recipe.solver import SolverRecipe, SteppingRecipe

STEP_PENALTIES = ("error_estimate", "stiffness")
SOLVE_PENALTIES = (*STEP_PENALTIES, "trajectory_polynomial")


def fault_between(weights: RegularizersRecipe, solver: SolverRecipe) -> tuple[str, str] | None:
    """Return the key of a weighted penalty that does not go with the solver, and why.

    Example:
        >>> fault_between(RegularizersRecipe(error_estimate=1.0), SolverRecipe())
        ('error_estimate', 'rk4 does not estimate its error: say algorithm = "dopri5", whose ...
        >>> fault_between(RegularizersRecipe(stiffness=1.0), SolverRecipe(eval={"step": 0.1}))
    """
    for key in SOLVE_PENALTIES:
        if getattr(weights, key) > 0:
            fault = next(_faults(key, solver), None)
            if fault is not None:
                return key, fault
    return None


def _faults(key: str, solver: SolverRecipe) -> Iterator[str]:
    at_nodes = [q for q in (solver.quadrature, solver.penalty_quadrature) if q is not None]
    if any(q.rule != "stages" for q in at_nodes):
        yield "it is no integral that nodes could take: drop the quadratures"
    if key not in STEP_PENALTIES:
        return
    if solver.sensitivity not in OF_THE_STEPS:
        yield (
            f"it is a sum over the steps, which {solver.sensitivity} does not differentiate: say "
            'sensitivity = "checkpointed"'
        )
    for stepping in (solver, solver.eval):
        yield from _faults_of_stepping(key, stepping)


def _faults_of_stepping(key: str, stepping: SteppingRecipe) -> Iterator[str]:
    name = stepping.algorithm
    if stepping.per_sample:
        yield "it is a sum over the steps of the batch: drop per_sample"
    if key == "error_estimate" and name in FIXED_ALGORITHMS:
        yield (
            f'{name} does not estimate its error: say algorithm = "dopri5", whose steps may be '
            "fixed"
        )
    if key == "stiffness" and name not in COMPARES_STAGES:
        yield f'{name} has no two stages at the same time: say algorithm = "dopri5" or "rk4"'
