"""Every algorithm with every stepping, sensitivity, divergence and regularizer.

The gradient of each cell is compared, along one random direction of the parameters and one of the
input, with central differences of the forward solve with the noise and the grid held still.
"""

import functools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    FixedStep,
    RegularizedFlow,
    ReversibleAdjoint,
    Solver,
    Tsit5,
)
from rnode_dyn.flows.divergence import Divergence
from rnode_dyn.flows.regularizers import Regularizer
from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.stepping.base import Stepping
from tests.flows.cases import (
    ALGORITHMS,
    DIVERGENCES,
    REGULARIZERS,
    SENSITIVITIES,
    RecordedStep,
    ReplayedStep,
    SmallField,
    flat,
    name_of,
    outputs,
)

END_TIME = 0.3
SHAPE = (2, 1, 2, 2)
EPS = 1e-5


@dataclass(frozen=True)
class Accuracy:
    """How finely an algorithm steps here, and how near a continuous adjoint then comes."""

    steps: int
    fixed_error: float
    tolerance: float
    adaptive_error: float


# A continuous adjoint solves an ODE of its own, and agrees as far as that is solved.
ACCURACY = {
    "Euler": Accuracy(8, 2e-1, 0.0, 0.0),
    "Midpoint": Accuracy(4, 1e-2, 0.0, 0.0),
    "Heun": Accuracy(4, 1e-2, 0.0, 0.0),
    "AdaptiveHeun": Accuracy(4, 1e-2, 1e-3, 5e-3),
    "RK4": Accuracy(2, 1e-4, 0.0, 0.0),
    "RK38": Accuracy(2, 1e-4, 0.0, 0.0),
    "Bosh3": Accuracy(3, 1e-3, 5e-5, 5e-4),
    "Dopri5": Accuracy(2, 1e-5, 1e-5, 2e-5),
    "Tsit5": Accuracy(2, 1e-5, 1e-5, 2e-5),
    "Dopri8": Accuracy(1, 1e-6, 1e-6, 1e-6),
}
EXACT = (DiscreteAdjoint, CheckpointedAdjoint, ReversibleAdjoint)
EXACT_ERROR = 1e-9


@dataclass(frozen=True)
class Way:
    """An algorithm with fixed or adaptive steps."""

    algorithm: Algorithm
    adaptive: bool

    @property
    def accuracy(self) -> Accuracy:
        return ACCURACY[self.algorithm.name]

    @property
    def stepping(self) -> AdaptiveStep | FixedStep:
        tolerance = self.accuracy.tolerance
        if self.adaptive:
            return AdaptiveStep(tolerance, tolerance, first_step=END_TIME / 2)
        return FixedStep(END_TIME / self.accuracy.steps)

    def error(self, sensitivity: Sensitivity) -> float:
        """Return the relative error that the gradient may have."""
        if isinstance(sensitivity, EXACT):
            return EXACT_ERROR
        return self.accuracy.adaptive_error if self.adaptive else self.accuracy.fixed_error

    def __str__(self) -> str:
        return f"{self.algorithm.name}-{'adaptive' if self.adaptive else 'fixed'}"


WAYS = [
    Way(algorithm, adaptive)
    for algorithm in ALGORITHMS
    for adaptive in (False, True)
    if not adaptive or algorithm.embedded_order is not None
]


def start() -> tuple[nn.Module, Tensor]:
    """Return the field and the input: the same ones every time."""
    torch.manual_seed(3)
    return SmallField(), torch.randn(SHAPE)


def run(
    field: nn.Module,
    x: Tensor,
    solver: Solver,
    divergence: Divergence,
    regularizers: list[Regularizer],
) -> dict[str, Tensor]:
    """Solve with the noise that belongs to these tests."""
    torch.manual_seed(11)
    flow = RegularizedFlow(field, solver, divergence, regularizers, end_time=END_TIME)
    return outputs(flow(x))


def trained(field: nn.Module) -> list[nn.Parameter]:
    return [p for p in field.parameters() if p.requires_grad]


@functools.cache
def directions() -> dict[str, list[Tensor]]:
    """Return a direction of the parameters and one of the input, each of length one."""
    field, x = start()
    generator = torch.Generator().manual_seed(5)
    drawn = {
        "parameters": [torch.randn(p.shape, generator=generator) for p in trained(field)],
        "input": [torch.randn(x.shape, generator=generator)],
    }
    return {
        name: [part / torch.stack([p.norm() for p in parts]).norm() for part in parts]
        for name, parts in drawn.items()
    }


def frozen_grid(way: Way, divergence: Divergence, states: Sensitivity) -> Stepping:
    """Return the stepping that makes the accepted steps of this way again, whatever moves."""
    if not way.adaptive:
        return way.stepping
    given = way.stepping
    recorded = RecordedStep(given.rtol, given.atol, given.first_step)
    run(*start(), Solver(way.algorithm, recorded, states), divergence, [])
    return ReplayedStep(END_TIME, tuple(recorded.ends))


@functools.cache
def differences(
    way: Way, divergence: Divergence, states: Sensitivity
) -> dict[str, dict[str, float]]:
    """Return the central difference of every output along each direction."""
    solver = Solver(way.algorithm, frozen_grid(way, divergence, states), states)

    @torch.no_grad()
    def moved(along: str, by: float) -> dict[str, Tensor]:
        field, x = start()
        for target, part in zip(
            [x] if along == "input" else trained(field), directions()[along], strict=True
        ):
            target += by * part
        return run(field, x, solver, divergence, REGULARIZERS)

    def slopes(along: str) -> dict[str, float]:
        ahead, behind = moved(along, EPS), moved(along, -EPS)
        return {name: float(ahead[name] - behind[name]) / (2 * EPS) for name in ahead}

    return {along: slopes(along) for along in directions()}


@pytest.mark.one_in(6)
@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=name_of)
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name_of)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_gradient(
    way: Way, sensitivity: Sensitivity, divergence: Divergence, regularizer: Regularizer
) -> None:
    field, x = start()
    x.requires_grad_()
    solver = Solver(way.algorithm, way.stepping, sensitivity)
    values = run(field, x, solver, divergence, [regularizer])
    torch.stack(list(values.values())).sum().backward()

    assert field.gain.grad is None
    assert field.unused.grad is None or not field.unused.grad.any()
    gradients = {"parameters": trained(field), "input": [x]}
    states = sensitivity if isinstance(sensitivity, ReversibleAdjoint) else DiscreteAdjoint()
    for along, expected in differences(way, divergence, states).items():
        slope = sum(
            float((direction * tensor.grad).sum())
            for direction, tensor in zip(directions()[along], gradients[along], strict=True)
            if tensor.grad is not None
        )
        wanted = sum(expected[name] for name in values)
        scale = sum(abs(expected[name]) for name in values)
        assert abs(slope - wanted) <= way.error(sensitivity) * scale, along


@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_parameters_learn_from_an_input_that_needs_no_gradient(
    sensitivity: Sensitivity, adaptive: bool
) -> None:
    way = next(w for w in WAYS if w.algorithm.name == "Tsit5" and w.adaptive == adaptive)
    solver = Solver(way.algorithm, way.stepping, sensitivity)

    def gradients(needed: bool) -> list[Tensor | None]:
        field, x = start()
        values = run(field, x.requires_grad_(needed), solver, DIVERGENCES[0], REGULARIZERS)
        torch.stack(list(values.values())).sum().backward()
        return [p.grad for p in trained(field)[:2]]

    torch.testing.assert_close(gradients(False), gradients(True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", [w for w in WAYS if w.adaptive], ids=str)
@pytest.mark.parametrize("every", [2, 100])
def test_checkpoints_far_apart_change_nothing(way: Way, every: int) -> None:
    def gradients(sensitivity: Sensitivity) -> list[Tensor | None]:
        field, x = start()
        solver = Solver(way.algorithm, way.stepping, sensitivity)
        values = run(field, x, solver, DIVERGENCES[0], REGULARIZERS)
        torch.stack(list(values.values())).sum().backward()
        return [p.grad for p in trained(field)[:2]]

    torch.testing.assert_close(
        gradients(CheckpointedAdjoint(every)), gradients(DiscreteAdjoint()), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("sensitivity", SENSITIVITIES[2:4], ids=name_of)
@pytest.mark.parametrize("algorithm", [Dopri5(), Tsit5()], ids=name_of)
def test_continuous_adjoints_converge_as_the_tolerance_shrinks(
    algorithm: Algorithm, sensitivity: Sensitivity
) -> None:
    def gradient(sensitivity: Sensitivity, tolerance: float) -> Tensor:
        field, x = start()
        solver = Solver(algorithm, AdaptiveStep(tolerance, tolerance), sensitivity)
        values = run(field, x, solver, DIVERGENCES[0], REGULARIZERS)
        torch.stack(list(values.values())).sum().backward()
        return flat([p.grad for p in trained(field)[:2]])

    truth = gradient(DiscreteAdjoint(), 1e-10)
    coarse, fine = (
        float((gradient(sensitivity, tolerance) - truth).norm() / truth.norm())
        for tolerance in (1e-3, 1e-7)
    )
    assert fine < min(1e-4, 0.1 * coarse)
