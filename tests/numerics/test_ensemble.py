"""Many models at once: by vmap over a solve, and by one solve of an ensemble."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    FixedStep,
    InterpolatingAdjoint,
    MaxStepsError,
    ODEProblem,
    Solution,
    Solver,
    Tsit5,
    solve,
    solve_ensemble,
)
from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import ALGORITHMS, FORWARD, SENSITIVITIES, float64, relative_error

EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
STEPPINGS = {
    "fixed": FixedStep(1 / 16),
    "adaptive": AdaptiveStep(1e-9, 1e-9),
    "by sample": AdaptiveStep(1e-9, 1e-9, per_sample=True),
}
EACH_STEPPING = pytest.mark.parametrize("stepping", STEPPINGS.values(), ids=STEPPINGS)
MEMBERS, BATCH = 3, 2


class Mix(nn.Module):
    """A small field with a parameter, a buffer, and a frozen parameter."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.mix = nn.Parameter(torch.randn(2, 2, generator=draw, dtype=torch.float64))
        self.fixed = nn.Parameter(float64([0.3, 0.1 * seed]), requires_grad=False)
        self.register_buffer("shift", float64(0.1 * seed))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.mix + t * self.fixed) - self.shift * x


class MixOfTwo(Mix):
    """The same, of a state that is a dict."""

    def forward(self, t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        slope = super().forward(t, torch.stack([x["a"], x["b"]], 1))
        return {"a": slope[:, 0], "b": slope[:, 1]}


class StateFirst(Mix):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(t, x)


def start() -> Tensor:
    return float64([[0.5, -1.0], [0.2, 0.7]])


def models(kind: type[Mix] = Mix) -> list[Mix]:
    return [kind(seed) for seed in range(1, MEMBERS + 1)]


def ensemble(solver: Solver, kind: type[Mix] = Mix, x0: Any = None) -> tuple[Solution, dict]:
    stack = stack_module_state(models(kind))  # type: ignore[arg-type]
    x0 = start() if x0 is None else x0
    return solve_ensemble(ODEProblem(kind(7), x0, FORWARD), solver, stack), stack[0]


def one_by_one(solver: Solver) -> list[Solution]:
    return [solve(ODEProblem(model, start(), FORWARD), solver) for model in models()]


@EACH_SENSITIVITY
@EACH_STEPPING
def test_as_each_member_alone(stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity) -> None:
    if stepping == STEPPINGS["by sample"] and sensitivity not in SENSITIVITIES[:2]:
        pytest.skip("refused when the solver is built")
    solver = Solver(Dopri5(), stepping, sensitivity)
    solution, stack = ensemble(solver)
    assert solution.x.shape == (2, MEMBERS, BATCH, 2)
    solution.x[-1].sin().sum().backward()
    for i, alone in enumerate(one_by_one(solver)):
        model = alone.reader.problem.field  # type: ignore[union-attr]
        assert torch.allclose(solution.x[:, i], alone.x, rtol=1e-7)
        alone.x[-1].sin().sum().backward()
        assert relative_error(stack["mix"].grad[i], model.mix.grad) < 1e-6


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_every_algorithm_by_fixed_steps(algorithm: Algorithm) -> None:
    solver = Solver(algorithm, FixedStep(0.25))
    solution, _ = ensemble(solver)
    alone = torch.stack([each.x for each in one_by_one(solver)], 1)
    assert torch.allclose(solution.x, alone, rtol=1e-12)


@EACH_STEPPING
def test_any_time(stepping: FixedStep | AdaptiveStep) -> None:
    solver = Solver(Tsit5(), stepping)
    solution, _ = ensemble(solver)
    for at in (solution.derivative, solution):
        assert at([0.3, 0.6]).shape == (2, MEMBERS, BATCH, 2)
    for i, alone in enumerate(one_by_one(solver)):
        assert torch.allclose(solution(0.3)[i], alone(0.3), rtol=1e-7)


@EACH_STEPPING
@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str)
def test_structured_states(stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity) -> None:
    solver = Solver(Tsit5(), stepping, sensitivity)
    x0 = dict(zip("ab", start().unbind(1), strict=True))
    solution, stack = ensemble(solver, MixOfTwo, x0)
    plain, wanted = ensemble(solver)
    assert torch.allclose(torch.stack([*solution.x.values()], -1), plain.x, rtol=1e-8)
    (solution.x["a"][-1] + solution.x["b"][-1]).sum().backward()
    plain.x[-1].sum().backward()
    assert torch.allclose(stack["mix"].grad, wanted["mix"].grad, rtol=1e-6)


def test_what_is_not_in_the_stack_is_shared() -> None:
    model = Mix(1)
    mixes = torch.stack([m.mix.detach() for m in models()])
    problem = ODEProblem(model, start(), FORWARD)
    solution = solve_ensemble(problem, Solver(RK4(), FixedStep(0.1)), {"mix": mixes}, [1.0])
    for i, mix in enumerate(mixes):
        with torch.no_grad():
            model.mix.copy_(mix)
        alone = solve(problem, Solver(RK4(), FixedStep(0.1))).x[-1]
        assert torch.allclose(solution.x[0, i], alone)


def test_a_model_that_takes_the_state_first_and_stays_as_it_was() -> None:
    solution, _ = ensemble(Solver(RK4(), FixedStep(0.1)), StateFirst)
    assert torch.allclose(solution.x, ensemble(Solver(RK4(), FixedStep(0.1)))[0].x)
    model = Mix(7)
    before = dict(model.state_dict(keep_vars=True))
    solve_ensemble(ODEProblem(model, start(), FORWARD), None, stack_module_state(models()))  # type: ignore[arg-type]
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is tensor for name, tensor in before.items())


def test_what_there_is_of_an_ensemble_that_stops() -> None:
    with pytest.raises(MaxStepsError) as caught:
        ensemble(Solver(Tsit5(), AdaptiveStep(1e-10, 1e-10, max_steps=3)))
    assert caught.value.solution.x.shape == (2, MEMBERS, BATCH, 2)


def refusing(parameters: Any, field: Any = None) -> Callable[[], object]:
    return lambda: solve_ensemble(
        ODEProblem(field or Mix(0), start(), FORWARD), parameters=parameters
    )


MIX = torch.zeros(3, 2, 2).double()
REFUSED = {
    "a function": (refusing({"mix": MIX}, lambda t, x: x), TypeError, "modules"),
    "nothing": (refusing(()), TypeError, "stack_module_state"),
    "a list of models": (refusing([Mix(0)]), TypeError, "stack_module_state"),
    "tensors without names": (refusing([MIX]), TypeError, "stack_module_state"),
    "a number": (refusing({"mix": 1.0}), TypeError, "stack_module_state"),
    "another name": (refusing({"mixed": MIX}), ValueError, "no parameter 'mixed'; it has mix"),
    "another shape": (refusing({"mix": MIX[0]}), ValueError, "members first"),
    "other numbers": (
        refusing({"mix": MIX, "fixed": torch.zeros(2, 2).double()}),
        ValueError,
        "of 3 members",
    ),
    "no problem": (lambda: solve_ensemble(Mix(0)), TypeError, "ODEProblem"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        build()


RATES = float64([0.3, -0.5, 1.2])
FIXED = FixedStep(1 / 16)


def fading(w: Tensor, solver: Solver | None = None) -> Solution:
    field = lambda t, x: -w * x * torch.cos(t)  # noqa: E731
    return solve(ODEProblem(field, start(), FORWARD), solver or Solver(Dopri5(), FIXED))


def end(w: Tensor) -> Tensor:
    return fading(w).x[-1]


def exact(w: Tensor) -> Tensor:
    return start() * torch.exp(-w * torch.sin(float64(1.0)))


TRANSFORMS = {
    "vmap": lambda f: vmap(f)(RATES),
    "jacrev": lambda f: jacrev(f)(RATES[0]),
    "jacfwd": lambda f: jacfwd(f)(RATES[0]),
    "hessian": lambda f: hessian(lambda w: f(w).square().sum())(RATES[0]),
    "vmap of grad": lambda f: vmap(grad(lambda w: f(w).sum()))(RATES),
    "jacrev of vmap": lambda f: jacrev(lambda w: vmap(f)(w).sum(0))(RATES),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_over_fixed_steps(name: str) -> None:
    transformed = TRANSFORMS[name]
    assert torch.allclose(transformed(end), transformed(exact), atol=1e-7)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_vmap_over_every_algorithm(algorithm: Algorithm) -> None:
    solver = Solver(algorithm, FixedStep(0.25))

    def outcome(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        solution = fading(w, solver)
        return solution.x, solution([0.3, 0.8]), solution.derivative(0.3)

    together = vmap(outcome)(RATES)
    alone = [outcome(w) for w in RATES]
    for mapped, each in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(mapped, torch.stack(each), rtol=1e-10)


def test_vmap_over_a_stack_of_models() -> None:
    parameters, buffers = stack_module_state(models())  # type: ignore[arg-type]
    model = Mix(7)

    def outcome(parameters: dict, buffers: dict) -> Tensor:
        field = lambda t, x: functional_call(model, (parameters, buffers), (t, x))  # noqa: E731
        return solve(ODEProblem(field, start(), FORWARD), Solver(RK4(), FIXED)).x[-1]

    mapped = vmap(outcome)(parameters, buffers)
    assert torch.allclose(mapped, ensemble(Solver(RK4(), FIXED))[0].x[-1], rtol=1e-12)


NOT_MAPPED = {
    "adaptive": (lambda w: fading(w, Solver(Tsit5())), "FixedStep"),
    "adjoint": (lambda w: fading(w, Solver(Tsit5(), FIXED, InterpolatingAdjoint())), "Discrete"),
    "time": (lambda w: fading(RATES[0])(w.abs()), "batched by vmap"),
    "span": (lambda w: ODEProblem(end, start(), (-2.0, w)), "batched by vmap"),
}


@pytest.mark.parametrize("name", NOT_MAPPED)
def test_what_cannot_be_mapped_says_so(name: str) -> None:
    solves, words = NOT_MAPPED[name]
    with pytest.raises(RuntimeError, match=words):
        vmap(lambda w: solves(w) and w)(RATES)
