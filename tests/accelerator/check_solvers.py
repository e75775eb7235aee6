"""Solving and differentiating on the device gives what it gives on the CPU."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    BS5,
    RK4,
    SSPRK33,
    SSPRK54,
    AdaptiveStep,
    AutoSwitch,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    FixedStep,
    HamiltonianProblem,
    Kvaerno3,
    Kvaerno5,
    MaxStepsError,
    NewtonError,
    NonFiniteStateError,
    ODEProblem,
    Ralston2,
    Ralston3,
    Ralston4,
    Rodas5P,
    Rosenbrock23,
    Solver,
    SolverError,
    StepSizeUnderflowError,
    Tsit5,
    VelocityVerlet,
    Vern7,
    Vern9,
    Yoshida4,
    solve,
    solve_ensemble,
)
from tests.accelerator.twins import Figures, agree, gradients
from tests.flows.cases import ALGORITHMS, EMBEDDED, SENSITIVITIES, SmallField, name_of

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

MORE = [Ralston2(), Ralston3(), Ralston4(), SSPRK33(), SSPRK54(), BS5(), Vern7(), Vern9()]
STIFF = [Rosenbrock23(), Kvaerno3(), Kvaerno5(), Rodas5P()]
FIXED, ADAPTIVE = FixedStep(0.25), AdaptiveStep(1e-6, 1e-6)


def start() -> Tensor:
    return torch.randn(3, 4)


def solved(solver: Solver, field: nn.Module, x0: Tensor) -> Figures:
    x0.requires_grad_()
    problem = ODEProblem(field, x0, (0.0, 1.0))
    solution = solve(problem, solver, save_at=[0.0, 0.3, 1.0])
    solution.x.sin().sum().backward()
    stats = solution.stats
    costs = {"nfe": stats.nfe, "accepted": stats.accepted, "nvjp": stats.nvjp}
    return {"t": solution.t, "x": solution.x, **costs, **gradients([x0, *field.parameters()])}


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
@pytest.mark.parametrize(
    "solver",
    [Solver(RK4(), FIXED), Solver(Tsit5(), ADAPTIVE)],
    ids=["fixed", "adaptive"],
)
def test_every_sensitivity(solver: Solver, sensitivity) -> None:
    solver = Solver(solver.algorithm, solver.stepping, sensitivity)
    agree(lambda: (SmallField(), start()), lambda *parts: solved(solver, *parts))


def read(solver: Solver, field: nn.Module, x0: Tensor) -> Figures:
    x0.requires_grad_()
    t = torch.tensor([0.7, 0.3, 0.9]).to(x0).requires_grad_()
    solution = solve(ODEProblem(field, x0, (0.0, 1.0)), solver)
    both = solution(t), solution.derivative(t, per_sample=True)
    (both[0].sin().sum() + both[1].sin().sum()).backward()
    return {"x": both[0], "slope": both[1], **gradients([x0, t, *field.parameters()])}


def of_many(solver: Solver, fields: list[nn.Module], x0: Tensor) -> Figures:
    stack, buffers = torch.func.stack_module_state(fields)
    solution = solve_ensemble(ODEProblem(fields[0], x0, (0.0, 1.0)), solver, (stack, buffers))
    solution.x.sin().sum().backward()
    return {"x": solution.x, **gradients(list(stack.values()))}


@pytest.mark.parametrize("stepping", [FIXED, AdaptiveStep(1e-6, 1e-6, per_sample=True)], ids=repr)
def test_an_ensemble(stepping) -> None:
    solver = Solver(Tsit5(), stepping)
    agree(
        lambda: (nn.ModuleList([SmallField(), SmallField()]), start()),
        lambda fields, x0: of_many(solver, list(fields), x0),
    )


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_any_time_of_the_span(sensitivity) -> None:
    solver = Solver(Tsit5(), FIXED, sensitivity)
    agree(lambda: (SmallField(), start()), lambda *parts: read(solver, *parts))


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *MORE], ids=name_of)
def test_every_algorithm_by_fixed_steps(algorithm) -> None:
    solver = Solver(algorithm, FIXED)
    agree(lambda: (SmallField(), start()), lambda *parts: solved(solver, *parts))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("stepping", [FIXED, AdaptiveStep(1e-4, 1e-4)], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("algorithm", STIFF, ids=name_of)
def test_methods_for_stiff_problems(algorithm, stepping) -> None:
    solver = Solver(algorithm, stepping, CheckpointedAdjoint())
    agree(lambda: (SmallField(), start()), lambda *parts: solved(solver, *parts))


def test_methods_that_take_turns() -> None:
    """The field is so fast that the explicit method gives way."""

    def use(rates: Tensor, x0: Tensor) -> Figures:
        rates.requires_grad_()
        problem = ODEProblem(lambda t, x: -200 * (1 + rates.square()) * (x - t), x0, (0.0, 1.0))
        algorithm = AutoSwitch(Tsit5(), Rosenbrock23())
        solution = solve(
            problem, Solver(algorithm, AdaptiveStep(1e-3, 1e-3), CheckpointedAdjoint())
        )
        solution.x[-1].sum().backward()
        assert solution.stats.njac > 0
        return {"x": solution.x, "njac": solution.stats.njac, **gradients([rates])}

    agree(lambda: (torch.randn(4), start()), use)


def moved(solver: Solver, landscape: nn.Module, x0: Tensor) -> Figures:
    def potential(q: Tensor) -> Tensor:
        return landscape(q.new_zeros(()), q).square().sum(1)

    x0.requires_grad_()
    problem = HamiltonianProblem(lambda p: p.square().sum(1) / 2, potential, x0, (0.0, 1.0))
    solution = solve(problem, solver, save_at=[0.3, 1.0])
    solution.x.sin().sum().backward()
    parts = [x0, *landscape.parameters()]
    return {"x": solution.x, "energy": problem.energy(solution.x), **gradients(parts)}


@pytest.mark.parametrize("algorithm", [VelocityVerlet(), Yoshida4(), RK4()], ids=name_of)
@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=name_of)
def test_hamiltonians(algorithm, sensitivity) -> None:
    solver = Solver(algorithm, FIXED, sensitivity)
    agree(
        lambda: (SmallField(), torch.randn(3, 8)),
        lambda landscape, x0: moved(solver, landscape, x0),
    )


def test_a_singular_matrix_is_told(accel) -> None:
    growth = 1 / (Rodas5P.tableau.gamma * 0.0625)
    problem = ODEProblem(lambda t, x: growth * x, torch.ones(2, 1, device=accel), (0.0, 0.0625))
    with pytest.raises(NewtonError, match="singular"):
        solve(problem, Solver(Rodas5P(), FixedStep(0.0625)))


@pytest.mark.parametrize("norm", ["rms", "max"])
@pytest.mark.parametrize("algorithm", EMBEDDED, ids=name_of)
def test_every_algorithm_by_adaptive_steps(algorithm, norm) -> None:
    solver = Solver(algorithm, AdaptiveStep(1e-4, 1e-4, norm=norm))
    agree(lambda: (SmallField(), start()), lambda *parts: solved(solver, *parts))


@pytest.mark.parametrize("stepping", [FIXED, ADAPTIVE], ids=name_of)
def test_times_on_the_device(stepping) -> None:
    def use(field: nn.Module, x0: Tensor, times: Tensor) -> Figures:
        problem = ODEProblem(field, x0, (0.0, 1.0), error_mask=torch.ones_like(x0[0]) > 0)
        return {"x": solve(problem, Solver(Tsit5(), stepping), save_at=times).x}

    agree(lambda: (SmallField(), start(), torch.linspace(0.0, 1.0, 5)), use)


@pytest.mark.parametrize("stepping", [FIXED, ADAPTIVE], ids=name_of)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_a_plain_function_that_closes_over_a_tensor_of_the_device(stepping, sensitivity) -> None:
    def use(x0: Tensor, rate: Tensor) -> Figures:
        rate.requires_grad_()
        problem = ODEProblem(lambda t, x: rate * x.cos() + t, x0, (1.0, 0.0), parameters=(rate,))
        solve(problem, Solver(Tsit5(), stepping, sensitivity)).x[-1].sum().backward()
        return gradients([rate])

    agree(lambda: (start(), torch.randn(4)), use)


@pytest.mark.parametrize("stepping", [FIXED, ADAPTIVE], ids=name_of)
def test_a_field_whose_constant_stayed_on_the_cpu_is_caught(stepping) -> None:
    constant = torch.randn(4)
    problem = ODEProblem(lambda t, x: constant * x, start().to("accel"), (0.0, 1.0))
    with pytest.raises((RuntimeError, ValueError), match="same device"):
        solve(problem, Solver(Tsit5(), stepping))


def breaks(t: Tensor, x: Tensor) -> Tensor:
    return torch.where(t > 0.5, x / 0, x)


def jumps(t: Tensor, x: Tensor) -> Tensor:
    return torch.where(t > 0.5, 1e12, x)


ERRORS = {
    "broken, fixed": (NonFiniteStateError, breaks, FIXED),
    "broken, adaptive": (NonFiniteStateError, breaks, ADAPTIVE),
    "too many steps": (MaxStepsError, torch.mul, AdaptiveStep(1e-12, 1e-12, max_steps=3)),
    "too short": (StepSizeUnderflowError, jumps, AdaptiveStep(1e-16, 1e-16, first_step=0.01)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_told_as_on_the_cpu(name: str) -> None:
    kind, field, stepping = ERRORS[name]

    def told(x0: Tensor) -> Figures:
        problem = ODEProblem(field, x0, (0.0, 1.0))
        with pytest.raises(kind) as caught:
            solve(problem, Solver(Tsit5(), stepping))
        assert isinstance(caught.value, SolverError)
        return {"said": str(caught.value)}

    agree(lambda: (start(),), told)
