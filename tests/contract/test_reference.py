"""The reference itself: its gradients, by times too, are those of finite differences.

Fields that draw or count are left out of the times, which are refused there, and those that never
are right out of everything.
"""

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor

from tests.contract.cells import DT, END, SEED, Asked
from tests.contract.fields import FIELDS, Case, Made
from tests.contract.fields.case import ALL
from tests.contract.outcomes import FIXED, Numbers, referred
from tests.contract.reference import Attempt, Dynamics, State, unrolled

EPS = 1e-5
FLOW = Asked("hutchinson", ("kinetic_energy", "total_derivative"))
RIGHT = [case for case in FIELDS if case.refused.by != ALL]
# What autograd leaves out (a Function's own idea of a derivative) is refused for flows.
WITH_FLOW = [c for c in RIGHT if not (c.refused.flow or c.refused.along)]
STILL = [c for c in RIGHT if not c.refused.times]


def one_in_four(cases: list[Case]) -> list[ParameterSet]:
    """The others are slow tests: what the reference adds for flows is the same for all fields."""
    return [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if index % 4 else [])
        for index, case in enumerate(cases)
    ]


def total(state: State) -> Tensor:
    """All of a state in one number."""
    values = [value.flatten().sin() for value in state.values()]
    return sum(
        (torch.linspace(0.5, 1.5, len(v), dtype=v.dtype) @ v for v in values), torch.zeros(())
    )


def end_of(made: Made, asked: Asked, x: Tensor, attempts: tuple[Attempt, ...] = FIXED) -> State:
    torch.manual_seed(SEED)
    noise = torch.randn_like(x) if asked.divergence == "hutchinson" else None
    return unrolled(Dynamics(made.plain, noise, asked.adds), x, attempts)[-1]


def difference(case: Case, asked: Asked, name: str, direction: Tensor) -> float:
    """Central difference along a direction of a leaf; the field is built anew each time."""

    def moved(by: float) -> float:
        made = case.build()
        {"x": made.x, **made.tensors}[name].data.add_(direction, alpha=by)
        # What is no leaf was made before the leaf had moved: build it again from there.
        return float(total(end_of(made, asked, made.x)).detach())

    return (moved(EPS) - moved(-EPS)) / (2 * EPS)


@pytest.mark.parametrize("case", RIGHT, ids=str)
def test_gradients(case: Case) -> None:
    check_gradients(case, Asked())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("case", one_in_four(WITH_FLOW))
def test_gradients_of_flows(case: Case) -> None:
    check_gradients(case, FLOW)


def check_gradients(case: Case, asked: Asked) -> None:
    made = case.build()
    x = made.x.requires_grad_()
    total(end_of(made, asked, x)).backward()
    leaves = {"x": x, **made.tensors}
    within = _what_other_tensors_are_made_of(made)
    checked = {n: t for n, t in leaves.items() if t.is_leaf and n not in within}
    for name, tensor in list(checked.items())[:3]:
        direction = torch.randn(tensor.shape, dtype=tensor.dtype)
        expected = difference(case, asked, name, direction)
        found = 0.0 if tensor.grad is None else float((tensor.grad * direction).sum())
        assert abs(found - expected) <= 1e-6 * (abs(expected) + 1), name


def _what_other_tensors_are_made_of(made: Made) -> set[str]:
    """Leaves that a tensor which is no leaf was computed from, before anybody could move them."""
    used: set[int] = set()
    stack = [t.grad_fn for t in made.tensors.values() if t.grad_fn is not None]
    while stack:
        node = stack.pop()
        used.add(id(getattr(node, "variable", None)))
        stack += [parent for parent, _ in node.next_functions if parent is not None]
    return {name for name, t in {"x": made.x, **made.tensors}.items() if id(t) in used}


FINE = 3


@pytest.mark.parametrize("case", STILL, ids=str)
def test_times(case: Case) -> None:
    check_times(case, Asked())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("case", one_in_four([c for c in STILL if not c.refused.flow]))
def test_times_of_flows(case: Case) -> None:
    check_times(case, Asked("exact"))


def check_times(case: Case, asked: Asked) -> None:
    """dx/dt1 = f at the end and dx/dt0 = −Φ f, to which fine steps come near."""
    wanted = Asked(asked.divergence, (), times=True)

    def ends(t0: float, t1: float) -> float:
        made, dt = case.build(), (t1 - t0) / FINE
        steps = tuple(Attempt(t0 + i * dt, dt) for i in range(FINE))
        torch.manual_seed(SEED)
        state = unrolled(Dynamics(made.plain, None, asked.adds), made.x, steps)[-1]
        return float(_loss(state))

    got: Numbers = referred(case, wanted, FIXED, adaptive=True)
    eps = 1e-4
    late = (ends(0.0, END + eps) - ends(0.0, END - eps)) / (2 * eps)
    early = (ends(eps, END) - ends(-eps, END)) / (2 * eps)
    names = {"end_time": late} if asked.divergence else {"t0": early, "t1": late}
    for name, expected in names.items():
        gradient = got.gradients[name]
        assert gradient is not None
        assert abs(float(gradient) - expected) <= 1e-4 * (1 + abs(expected)), name


def _loss(state: State) -> Tensor:
    # The weights of cells.py, of the state at the end.
    parts = [value.detach().flatten().sin() for value in state.values()]
    return torch.stack([torch.linspace(0.5, 1.5, len(p), dtype=p.dtype) @ p for p in parts]).sum()


def test_steps_cover_the_span() -> None:
    assert FIXED[-1].t + FIXED[-1].dt == pytest.approx(END)
    assert FIXED[0].dt == DT
