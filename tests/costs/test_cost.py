"""The cost of a training step against a training step: operations, evaluations, memory."""

from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rnode_dyn import (
    RK4,
    AdaptiveHeun,
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DirectionalDerivative,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    Euler,
    ExactDivergence,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    MultiscaleFlow,
    Quadrature,
    ReversibleAdjoint,
    Solver,
    Stiffness,
    TaylorDerivative,
    TrajectoryPolynomial,
    build_model,
    load_recipe,
)
from rnode_dyn.bench.measure import measure_speed
from rnode_dyn.costs.architecture import describe_model
from rnode_dyn.costs.cost import training_cost
from rnode_dyn.costs.epoch import train_size
from rnode_dyn.costs.probe import count_solve, steps_for
from rnode_dyn.costs.saved import SavedTensors
from rnode_dyn.data import Event, load_data
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.recipe.schema import DataRecipe
from rnode_dyn.training.objectives.likelihood import Likelihood
from tests.report.models import HALF_STEPS, PENALTIES, SHAPE, multiscale, vector_model

EVENT = Event(SHAPE, levels=256)
BATCH = 3
SENSITIVITIES = [
    DiscreteAdjoint(),
    CheckpointedAdjoint(),
    CheckpointedAdjoint(every=2),
    BacksolveAdjoint(),
    InterpolatingAdjoint(),
    ReversibleAdjoint(),
]
MODELS = [
    (multiscale, RK4()),
    (multiscale, Dopri5()),
    (vector_model, Euler()),
    (vector_model, Dopri5()),
    (vector_model, AdaptiveHeun()),
    (vector_model, Dopri8()),
]


class _NoModules(AbstractContextManager):
    """Stands for the counter's module tracker, which trips over autograd functions of our own."""

    parents = frozenset({"Global"})

    def __exit__(self, *error: Any) -> None: ...


def flop_counter() -> FlopCounterMode:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    return counter


def measured_flops(model: MultiscaleFlow, by_data: bool = True) -> tuple[int, int]:
    """Operations of a real step: forward, and in all, the gradient by the data included or not."""
    with flop_counter() as counter:
        u = torch.rand(BATCH, *SHAPE, requires_grad=by_data)
        loss = Likelihood().loss(model, u, EVENT)
        forward = counter.get_total_flops()
        loss.value.backward()
    return forward, counter.get_total_flops()


def weights_of(block: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(block.parameters())


def measured_bytes(model: MultiscaleFlow) -> int:
    with SavedTensors(model.parameters()) as saved:
        loss = Likelihood().loss(model, torch.rand(BATCH, *SHAPE), EVENT)
        loss.value.backward()
    assert saved.now == 0
    return saved.peak


@pytest.mark.one_in(3)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=repr)
@pytest.mark.parametrize(("make", "algorithm"), MODELS)
def test_operations_are_those_of_a_real_step(
    make: Any, algorithm: Any, sensitivity: Sensitivity
) -> None:
    model = make(Solver(algorithm, HALF_STEPS, sensitivity))
    cost = training_cost(model, BATCH)
    forward, step = measured_flops(model)
    assert (cost.forward_flops, cost.step_flops) == (forward, step)


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=repr)
def test_the_gradient_by_the_data_is_all_that_is_counted_too_much(
    sensitivity: Sensitivity,
) -> None:
    # Backpropagation through the steps leaves it out; the adjoints do not.
    model = multiscale(Solver(RK4(), HALF_STEPS, sensitivity))
    _, step = measured_flops(model, by_data=False)
    assert step <= training_cost(model, BATCH).step_flops <= 1.002 * step


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=repr)
@pytest.mark.parametrize(("make", "algorithm"), MODELS[1:3])
def test_memory_is_that_of_a_real_step(make: Any, algorithm: Any, sensitivity: Sensitivity) -> None:
    model = make(Solver(algorithm, HALF_STEPS, sensitivity))
    cost = training_cost(model, BATCH)
    # The latent variable is not counted, and the noise is, which only some keep in the graph.
    slack = 3 * torch.float32.itemsize * EVENT.dims * BATCH
    if isinstance(sensitivity, BacksolveAdjoint):
        # Its state holds the gradient by the weights too, and weights are not counted.
        slack += max(p.nbytes for p in map(weights_of, model.blocks))
    assert abs(measured_bytes(model) - cost.bytes) <= slack


@pytest.mark.parametrize(
    ("divergence", "regularizers"),
    [
        (HutchinsonDivergence("rademacher", probes=3), PENALTIES),
        (ExactDivergence(), PENALTIES),
        (HutchinsonDivergence(), (*PENALTIES, DirectionalDerivative(0.1))),
        (HutchinsonDivergence(), (*PENALTIES, TaylorDerivative(0.1, order=2))),
    ],
)
def test_what_is_integrated_beside_the_state_is_counted(divergence: Any, regularizers: Any) -> None:
    model = multiscale(Solver(RK4(), HALF_STEPS, CheckpointedAdjoint()), divergence, regularizers)
    cost = training_cost(model, BATCH)
    assert (cost.forward_flops, cost.step_flops) == measured_flops(model)


def test_where_penalties_look_at_states_is_counted() -> None:
    """All but what they make of them, a sum over the states."""
    penalties = (*PENALTIES, TrajectoryPolynomial(1.0), Stiffness(0.1))
    solver = Solver(RK4(), HALF_STEPS, CheckpointedAdjoint())
    model = multiscale(solver, HutchinsonDivergence(), penalties)
    cost = training_cost(model, BATCH)
    assert (cost.forward_flops, cost.step_flops) == pytest.approx(measured_flops(model), rel=2e-3)


QUADRATURES = [
    (Quadrature("gauss", nodes=3), None),
    (Quadrature("stratified", nodes=2), None),
    (Quadrature("gauss", nodes=4), Quadrature("gauss", nodes=1)),
    (None, Quadrature("gauss", nodes=2)),
]


def with_nodes(
    model: MultiscaleFlow, quadratures: tuple[Quadrature | None, Quadrature | None]
) -> MultiscaleFlow:
    of_log_det, of_penalties = quadratures
    for block in model.blocks:
        block.quadrature = of_log_det or Quadrature()
        block.penalty_quadrature = of_penalties
    return model


@pytest.mark.parametrize("sensitivity", SENSITIVITIES[:2], ids=repr)
@pytest.mark.parametrize("quadratures", QUADRATURES, ids=str)
def test_what_is_evaluated_at_nodes_is_counted(quadratures: Any, sensitivity: Sensitivity) -> None:
    solver = Solver(RK4(), HALF_STEPS, sensitivity)
    model = with_nodes(multiscale(solver), quadratures)
    cost = training_cost(model, BATCH)
    assert (cost.forward_flops, cost.step_flops) == measured_flops(model)
    of_blocks = [block.per_sample(BATCH)["evaluations"] for block in cost.blocks]
    assert of_blocks == [block.stats.nfe for block in model.blocks]
    assert describe_model(model)["evaluations_per_forward"] == sum(of_blocks)
    assert measured_bytes(model) == pytest.approx(cost.bytes, rel=0.02)


def test_speed_counts_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("rnode_dyn.bench.measure.time.perf_counter", lambda: float(next(clock)))
    model = with_nodes(multiscale(Solver(RK4(), HALF_STEPS)), QUADRATURES[2])
    speed = measure_speed(model, EVENT, batch_size=BATCH)
    assert speed.flops_per_second == training_cost(model, 1).step_flops


@pytest.mark.parametrize("algorithm", [RK4(), Dopri5(), Dopri8()], ids=repr)
@pytest.mark.parametrize("wanted", [1, 13, 25, 100])
def test_evaluations_are_met_to_within_a_step(algorithm: Any, wanted: int) -> None:
    steps = steps_for(Solver(algorithm), wanted) if algorithm != RK4() else wanted // 4 or 1
    stages = algorithm.tableau.stages
    shared = algorithm.tableau.first_same_as_last
    made = steps * stages - (steps - 1) * shared
    assert abs(made - wanted) <= stages


def test_adaptive_steps_are_assumed_and_said_so() -> None:
    adaptive = multiscale(Solver(Dopri5(), AdaptiveStep(), CheckpointedAdjoint()))
    fixed = multiscale(Solver(RK4(), HALF_STEPS))
    assert [training_cost(m).assumed for m in (adaptive, fixed)] == [True, False]
    assert {b.counts.forward for b in training_cost(adaptive).blocks} == {4 * 6 + 1}
    assert {b.counts.forward for b in training_cost(adaptive, 1, 60).blocks} == {61}
    assert {b.counts.forward for b in training_cost(fixed, 1, 60).blocks} == {8}


def test_checkpoints_remake_what_they_dropped() -> None:
    counts = count_solve(Solver(Dopri5(), HALF_STEPS, CheckpointedAdjoint()), 2.0)
    assert (counts.forward, counts.again, counts.differentiated) == (25, 28, 24)
    assert (counts.states_kept, counts.graphs_kept, counts.graphs_added) == (4, 0, 7)


def test_counting_needs_neither_time_nor_memory() -> None:
    # A batch of 200 would take 4 GB: nothing is computed.
    model = build_model(load_recipe("mnist"))
    state = torch.get_rng_state()
    cost = training_cost(model, 200)
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert cost.bytes > 10**9


@pytest.mark.parametrize("name", ["digits", "moons", "rings", "fake"])
def test_known_sizes_are_those_of_the_data(name: str) -> None:
    assert train_size(DataRecipe(dataset=name)) == len(load_data(name).train)  # type: ignore[arg-type]


def test_a_stated_size_comes_first() -> None:
    assert train_size(DataRecipe(dataset="mnist", train_size=100)) == 100


def test_speed_is_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("rnode_dyn.bench.measure.time.perf_counter", lambda: float(next(clock)))
    model = multiscale(Solver(RK4(), HALF_STEPS, CheckpointedAdjoint()))
    speed = measure_speed(model, EVENT, batch_size=BATCH)
    # Every step takes a second by this clock, so that one sample is enough.
    assert (speed.batch_size, speed.seconds) == (1, 1.0)
    assert speed.flops_per_second == training_cost(model, 1).step_flops
    assert all(p.grad is None for p in model.parameters())


def test_a_quick_model_is_timed_at_its_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("rnode_dyn.bench.measure.time.perf_counter", lambda: next(clock) / 8)
    model = multiscale(Solver(Dopri5(), AdaptiveStep(1e-3, 1e-3), CheckpointedAdjoint()))
    speed = measure_speed(model, EVENT, batch_size=BATCH)
    assert speed.batch_size == BATCH
    assert speed.flops_per_second > 0
