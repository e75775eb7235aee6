"""States of several tensors, and complex ones: solved as they are written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import register_dataclass, tree_leaves, tree_map

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    DiscreteAdjoint,
    Dopri5,
    FixedStep,
    ODEProblem,
    Solver,
    SolverError,
    Step,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import FORWARD, REVERSED, SENSITIVITIES, Span, float64, relative_error

EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
STEPPINGS = [FixedStep(1 / 16), AdaptiveStep(1e-9, 1e-9)]
EACH_STEPPING = pytest.mark.parametrize("stepping", STEPPINGS, ids=["fixed", "adaptive"])


class Pair(NamedTuple):
    first: Tensor
    second: Any


@dataclass
class Registered:
    level: Tensor
    rest: Any


register_dataclass(Registered)


@dataclass
class Unregistered:
    level: Tensor


# Each makes a structure of three leaves of other shapes.
STRUCTURES: dict[str, Callable[..., Any]] = {
    "tuple": lambda a, b, c: (a, b, c),
    "list": lambda a, b, c: [a, b, c],
    "named tuple": lambda a, b, c: Pair(a, (b, c)),
    "dict": lambda a, b, c: {"a": a, "b": b, "c": c},
    "nested": lambda a, b, c: {"in": [{"a": a}, (b,)], "c": c},
    "dataclass": lambda a, b, c: Registered(a, {"b": b, "c": c}),
}
EACH_STRUCTURE = pytest.mark.parametrize("make", STRUCTURES.values(), ids=STRUCTURES)


class Growth:
    """Each leaf grows at a rate of its own that is explicit in time, and has a closed form."""

    def __init__(self, make: Callable[..., Any]) -> None:
        draw = torch.Generator().manual_seed(3)
        shapes = [(2,), (2, 3), (2, 2, 2)]
        kinds = [torch.float64, torch.complex128, torch.float64]
        self.make = make
        self.start = [
            torch.randn(s, generator=draw, dtype=k).requires_grad_()
            for s, k in zip(shapes, kinds, strict=True)
        ]
        turn = torch.tensor([0.4 + 1j, -0.3 - 2j, 0.1j], dtype=torch.complex128)
        self.rates = [float64(-0.7), turn, float64([[0.2, -0.4], [0.9, 0.1]])]
        for rate in self.rates:
            rate.requires_grad_()

    def problem(self, span: Span = FORWARD, **more: Any) -> ODEProblem:
        def field(t: Tensor, state: Any) -> Any:
            leaves = zip(self.rates, tree_leaves(state), strict=True)
            return self.make(*(rate * t * leaf for rate, leaf in leaves))

        return ODEProblem(field, self.make(*self.start), span, **more)

    def exact(self, t: float, start: float = 0.0) -> list[Tensor]:
        turns = (torch.exp(rate * (t**2 - start**2) / 2) for rate in self.rates)
        return [turn * x for turn, x in zip(turns, self.start, strict=True)]


def size_of(leaves: list[Tensor]) -> Tensor:
    """A loss that tells real from imaginary parts."""
    whole = [torch.view_as_real(x) if x.is_complex() else x for x in leaves]
    return sum((x.sin() * torch.linspace(1, 2, x.shape[-1]).double()).sum() for x in whole)  # type: ignore[return-value]


CASES = [("nested", s, step) for s in SENSITIVITIES for step in STEPPINGS]
CASES += [(name, DiscreteAdjoint(), STEPPINGS[0]) for name in STRUCTURES if name != "nested"]


@pytest.mark.parametrize(("name", "sensitivity", "stepping"), CASES, ids=str)
def test_values_and_gradients(
    name: str, sensitivity: Sensitivity, stepping: FixedStep | AdaptiveStep
) -> None:
    make = STRUCTURES[name]
    growth = Growth(make)
    solution = solve(growth.problem(), Solver(Dopri5(), stepping, sensitivity))
    assert type(solution.x) is type(make(*growth.start))
    ends = [leaf[-1] for leaf in tree_leaves(solution.x)]
    exact = growth.exact(1.0)
    assert all(relative_error(*pair).real < 1e-6 for pair in zip(ends, exact, strict=True))
    wanted = [*growth.start, *growth.rates]
    ours = torch.autograd.grad(size_of(ends), wanted)
    closed = torch.autograd.grad(size_of(exact), wanted)
    assert all(relative_error(*pair) < 1e-5 for pair in zip(ours, closed, strict=True))


@EACH_STRUCTURE
@pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])
def test_any_time_and_every_step(span: Span, make: Callable[..., Any]) -> None:
    growth, seen = Growth(make), []
    solution = solve(growth.problem(span), Solver(Tsit5(), STEPPINGS[1]), callback=seen.append)
    exact = growth.exact(0.4, span[0])
    for state in (solution(0.4), tree_map(lambda x: x[1], solution([0.7, 0.4]))):
        leaves = tree_leaves(state)
        assert all(relative_error(*pair) < 1e-6 for pair in zip(leaves, exact, strict=True))
    slopes = tree_leaves(solution.derivative(0.4))
    rates = [0.4 * rate * x for rate, x in zip(growth.rates, exact, strict=True)]
    assert all(relative_error(*pair) < 1e-6 for pair in zip(slopes, rates, strict=True))
    last: Step = seen[-1]
    pairs = zip(tree_leaves(last.x1), tree_leaves(solution.x), strict=True)
    assert all(torch.equal(end, saved[-1]) for end, saved in pairs)


@EACH_SENSITIVITY
def test_a_single_complex_tensor(sensitivity: Sensitivity) -> None:
    w = torch.tensor([1j, 0.5 - 2j], dtype=torch.complex128, requires_grad=True)
    x0 = torch.tensor([[1 + 1j, 2.0]], dtype=torch.complex128, requires_grad=True)
    solver = Solver(Dopri5(), STEPPINGS[1], sensitivity)
    x = solve(ODEProblem(lambda t, x: w * x, x0, FORWARD), solver).x[-1]
    exact = torch.exp(w) * x0
    assert x.dtype == torch.complex128
    assert relative_error(x, exact) < 1e-7
    ours = torch.autograd.grad(size_of([x]), (w, x0))
    closed = torch.autograd.grad(size_of([exact]), (w, x0))
    assert all(relative_error(*pair) < 1e-6 for pair in zip(ours, closed, strict=True))


@EACH_SENSITIVITY
def test_complex_parameters_of_a_real_state(sensitivity: Sensitivity) -> None:
    w = torch.tensor([0.3 + 0.5j, -1j], dtype=torch.complex128, requires_grad=True)
    x0 = float64([[1.0, 2.0]]).requires_grad_()
    solver = Solver(Dopri5(), STEPPINGS[1], sensitivity)
    x = solve(ODEProblem(lambda t, x: (w.abs() + w.imag) * x, x0, FORWARD), solver).x[-1]
    exact = torch.exp(w.abs() + w.imag) * x0
    ours = torch.autograd.grad(x.sum(), (w, x0))
    closed = torch.autograd.grad(exact.sum(), (w, x0))
    assert all(relative_error(*pair) < 1e-6 for pair in zip(ours, closed, strict=True))


class Swing(nn.Module):
    """A pendulum whose state is a dict; parameters of a module are found as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.pull = nn.Parameter(float64(2.0))

    def forward(self, t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:
        # In another order than the state's, which says nothing.
        return {"speed": -self.pull * x["angle"].sin(), "angle": x["speed"]}


def swinging() -> dict[str, Tensor]:
    return {"angle": float64([0.5, 1.0]), "speed": float64([0.0, 0.1])}


@EACH_SENSITIVITY
@EACH_STEPPING
def test_the_same_numbers_as_packed_by_hand(
    stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    swing = Swing()

    def by_hand(t: Tensor, x: Tensor) -> Tensor:
        slope = swing(t, {"angle": x[:, 0], "speed": x[:, 1]})
        return torch.stack([slope["angle"], slope["speed"]], 1)

    solver = Solver(RK4() if isinstance(stepping, FixedStep) else Tsit5(), stepping, sensitivity)
    flat = torch.stack([*swinging().values()], 1)
    gradients = []
    for problem in (ODEProblem(swing, swinging(), FORWARD), ODEProblem(by_hand, flat, FORWARD)):
        swing.pull.grad = None
        solution = solve(problem, solver)
        x = solution.x if isinstance(solution.x, Tensor) else torch.stack([*solution.x.values()], 2)
        x.square().sum().backward()
        gradients.append((x.detach(), swing.pull.grad, solution.stats.nfe))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-9)
    assert gradients[0][2] == gradients[1][2]


def tried(rtol: Any = 1e-6, atol: Any = 1e-6, **more: Any) -> int:
    """How many steps a fast leaf beside a slow one costs."""

    def field(t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"fast": 30 * torch.cos(30 * t) + 0 * x["fast"], "slow": -x["slow"]}

    start = {"fast": torch.zeros(2, 3).double(), "slow": torch.ones(2).double()}
    problem = ODEProblem(field, start, FORWARD, **more)
    return len(solve(problem, Solver(Tsit5(), AdaptiveStep(rtol, atol))).steps)


def test_tolerances_and_masks_of_each_leaf() -> None:
    assert tried({"fast": 1.0, "slow": 1e-6}, {"fast": 10.0, "slow": 1e-6}) < tried() / 3
    assert tried({"fast": 1e-6, "slow": 1e-6}, {"fast": 1e-6, "slow": 1e-6}) == tried()
    assert tried(error_mask={"fast": False, "slow": True}) < tried() / 3
    entries = torch.tensor([True, False, False])
    assert tried(error_mask={"fast": entries, "slow": True}) > tried() / 3
    row = torch.full((3,), 1e-6).double()
    assert tried({"fast": row, "slow": 1e-6}) == tried()


@EACH_SENSITIVITY
def test_gradients_under_tolerances_of_each_leaf(sensitivity: Sensitivity) -> None:
    growth = Growth(STRUCTURES["dict"])
    stepping = AdaptiveStep({"a": 1e-8, "b": 1e-9, "c": 1e-8}, {"a": 1e-8, "b": 1e-9, "c": 1e-9})
    solution = solve(growth.problem(), Solver(Dopri5(), stepping, sensitivity))
    wanted = [*growth.start, *growth.rates]
    ours = torch.autograd.grad(size_of([x[-1] for x in solution.x.values()]), wanted)
    closed = torch.autograd.grad(size_of(growth.exact(1.0)), wanted)
    assert all(relative_error(*pair) < 1e-5 for pair in zip(ours, closed, strict=True))


def test_tolerances_of_each_entry_of_one_tensor() -> None:
    field = lambda t, x: torch.stack([30 * torch.cos(30 * t) + 0 * x[:, 0], -x[:, 1]], 1)  # noqa: E731
    problem = ODEProblem(field, torch.ones(3, 2).double(), FORWARD)
    loose = float64([10.0, 1e-6])
    steps = [
        len(solve(problem, Solver(stepping=AdaptiveStep(*pair))).steps)
        for pair in ((loose, loose), (1e-6, 1e-6))
    ]
    assert steps[0] < steps[1] / 3


def test_what_there_is_of_a_solve_that_stops() -> None:
    growth = Growth(STRUCTURES["dict"])
    with pytest.raises(SolverError) as caught:
        solve(growth.problem(), Solver(stepping=AdaptiveStep(1e-9, 1e-9, max_steps=4)))
    assert caught.value.solution.x["c"].shape[1:] == (2, 2, 2)


def swing_into(change: Callable[[dict[str, Tensor]], Any], late: bool = False) -> ODEProblem:
    """A field whose answer is changed, from its first evaluation on or later."""
    swing = Swing()

    def field(t: Tensor, x: Any) -> Any:
        slope = swing(t, x)
        return change(slope) if not late or t > 0.5 else slope

    return ODEProblem(field, swinging(), FORWARD)


WRONG_SLOPES = {
    "a leaf less": lambda s: {"angle": s["angle"]},
    "a tuple": lambda s: (s["angle"], s["speed"]),
    "one tensor": lambda s: s["angle"],
    "another shape": lambda s: {**s, "angle": s["angle"][:1]},
    "another precision": lambda s: {**s, "angle": s["angle"].float()},
    "no tensor": lambda s: {**s, "angle": 1.0},
}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("name", WRONG_SLOPES)
def test_a_structure_that_changes(name: str, late: bool) -> None:
    with pytest.raises(ValueError, match=r"structure|x0\['angle'\]"):
        solve(swing_into(WRONG_SLOPES[name], late), Solver(Tsit5(), FixedStep(0.25)))


def start_of(x0: Any, **more: Any) -> Callable[[], object]:
    return lambda: ODEProblem(lambda t, x: x, x0, FORWARD, **more)


def under(problem: Callable[[], Any], **tolerances: Any) -> Callable[[], object]:
    return lambda: solve(problem(), Solver(stepping=AdaptiveStep(**tolerances)))


ONE = torch.ones(2, 3)
REFUSED = {
    "leaf without a batch": (start_of((ONE, torch.ones(()))), ValueError, r"x0\[1\] is a scalar"),
    "two batches": (start_of({"a": ONE, "b": ONE[:1]}), ValueError, r"x0\['b'\] one of 1"),
    "two precisions": (start_of((ONE, ONE.double())), TypeError, "one precision"),
    "whole numbers": (start_of((ONE, ONE.long())), TypeError, r"x0\[1\] is torch.int64"),
    "no tensor": (start_of((ONE, 1.0)), TypeError, "as_tensor"),
    "nothing": (start_of(()), ValueError, "nothing to solve"),
    "an empty leaf": (start_of((ONE, ONE[:, :0])), ValueError, "nothing to solve"),
    "none": (start_of({"a": ONE, "b": None}), TypeError, "NoneType"),
    "unregistered": (start_of(Unregistered(ONE)), TypeError, "register_dataclass"),
    "complex scalar": (start_of(torch.tensor(1j)), ValueError, "batch dimension"),
    "mask of one": (start_of((ONE, ONE), error_mask=ONE > 0), ValueError, "another structure"),
    "mask of numbers": (start_of((ONE, ONE), error_mask=(1.0, True)), ValueError, "error_mask"),
    "mask of nothing": (start_of((ONE,), error_mask=(False,)), ValueError, "selects nothing"),
    "mask for a tensor": (start_of(ONE, error_mask=(True,)), TypeError, "boolean tensor"),
    "tolerance of others": (under(start_of((ONE, ONE)), rtol=(1e-3,)), ValueError, "rtol has anot"),
    "tolerance too long": (under(start_of((ONE,)), atol=(ONE[0, :2],)), ValueError, "atol is of"),
    "tolerances for one": (under(start_of(ONE), rtol=(1e-3, 1e-3)), ValueError, "a structure"),
    "tolerance of a leaf": (lambda: AdaptiveStep(atol={"a": 0.0}), ValueError, "positive"),
    "tolerance below": (lambda: AdaptiveStep(rtol=-ONE[0]), ValueError, "positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        build()


def test_a_field_that_fails_on_a_structure_hears_which() -> None:
    problem = ODEProblem(lambda t, x: x["angle"] @ x["speed"] @ x, swinging(), FORWARD)
    with pytest.raises(ValueError, match=r"state of x0\['angle'\] \(batch\), x0\['speed'\]"):
        solve(problem)


def test_the_state_is_not_written_to() -> None:
    def field(t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: leaf.mul_(-1) for name, leaf in x.items()}

    with pytest.raises(ValueError, match="in place"), torch.no_grad():
        solve(ODEProblem(field, swinging(), FORWARD), Solver(sensitivity=DiscreteAdjoint()))
