"""How a likelihood was measured: what has to be known to compare it with another."""

from dataclasses import dataclass

from rnode_dyn.flows.divergence import Divergence, HutchinsonDivergence
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.quadrature import Quadrature
from rnode_dyn.numerics.solve import Solver
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep
from rnode_dyn.numerics.stepping.fixed import FixedStep


@dataclass(frozen=True)
class BlockCost:
    """A continuous block, how it was solved, and what a forward pass cost in it.

    Attributes:
        scale: Number of its scale, from 0.
        shape: Shape of a sample in the block.
        solver: Its solver of evaluation, in words.
        divergence: How the trace was found, in words.
        nfe: Evaluations of the field, mean over the batches.
        accepted: Accepted steps, likewise.
        rejected: Rejected steps, likewise.
    """

    scale: int
    shape: tuple[int, ...]
    solver: str
    divergence: str
    nfe: float
    accepted: float
    rejected: float


@dataclass(frozen=True)
class Protocol:
    """How a flow was scored.

    Attributes:
        split: Which split the samples are of; ``None`` where the caller did not say.
        samples: How many were scored.
        split_samples: How many the split has; ``None`` where the caller did not say. Fewer scored
            are the first ones, in the data set's own order.
        levels: Values a pixel can take; ``None`` for continuous data.
        dequantization: ``"uniform"``; ``"variational"`` where the noise is learned, so that bits
            per dimension are a variational bound; ``None`` for continuous data.
        solvers: The blocks' solvers of evaluation in words, each once.
        divergences: How the trace was found, in words, each once.
        batch_size: Samples that were solved together; adaptive steps depend on it a little.
        seed: Seed of the dequantization and of the divergence's noise.
    """

    split: str | None
    samples: int
    split_samples: int | None
    levels: int | None
    dequantization: str | None
    solvers: list[str]
    divergences: list[str]
    batch_size: int
    seed: int


def solver_in_words(solver: Solver) -> str:
    """Return a solver's algorithm with its step or its tolerances.

    Example:
        >>> from rnode_dyn import RK4, Dopri5
        >>> solver_in_words(Solver(RK4(), FixedStep(0.25)))
        'RK4, step 0.25'
        >>> solver_in_words(Solver(Dopri5(), AdaptiveStep(1e-5, 1e-6)))
        'Dopri5, rtol 1e-05, atol 1e-06'
    """
    name, stepping = solver.algorithm.name, solver.stepping
    if isinstance(stepping, FixedStep):
        return f"{name}, step {stepping.dt:g}"
    if isinstance(stepping, AdaptiveStep):
        norm = "" if stepping.norm == "rms" else f", {stepping.norm} norm"
        norm = ", each sample by itself" if stepping.per_sample else norm
        return f"{name}, rtol {stepping.rtol:g}, atol {stepping.atol:g}{norm}"
    return f"{name}, {stepping}"


def divergence_in_words(divergence: Divergence, quadrature: Quadrature | None = None) -> str:
    """Return how the trace of ∂f/∂x is found, and where, if it is not at the stages.

    Example:
        >>> divergence_in_words(HutchinsonDivergence("rademacher", probes=4))
        'Hutchinson, rademacher noise, 4 probes'
        >>> divergence_in_words(HutchinsonDivergence(), Quadrature("gauss", nodes=8))
        'Hutchinson, gaussian noise, 1 probe, at gauss nodes: 8 a block'
    """
    at = "" if quadrature is None or quadrature.at_stages else _nodes_in_words(quadrature)
    if not isinstance(divergence, HutchinsonDivergence):
        return f"exact trace{at}"
    probes = f"{divergence.probes} {'probe' if divergence.probes == 1 else 'probes'}"
    return f"Hutchinson, {divergence.noise} noise, {probes}{at}"


def _nodes_in_words(quadrature: Quadrature) -> str:
    return f", at {quadrature.rule} nodes: {quadrature.nodes} a block"


def costs_of_blocks(model: MultiscaleFlow, passes: list[list[tuple[int, ...]]]) -> list[BlockCost]:
    """Return each block's part in the evaluation.

    Args:
        model: The flow, in evaluation mode.
        passes: For every batch and block the evaluations, accepted and rejected steps.
    """
    costs = []
    for station, counts in zip(model.walk(), zip(*passes, strict=True), strict=True):
        nfe, accepted, rejected = (sum(each) / len(each) for each in zip(*counts, strict=True))
        words = (
            solver_in_words(station.flow.active_solver),
            divergence_in_words(station.flow.active_divergence, station.flow.active_quadratures[0]),
        )
        costs.append(BlockCost(station.scale, station.shape, *words, nfe, accepted, rejected))
    return costs
