"""What comes of a cell, compared with the reference.

A cell is right where values, gradients and what the field's buffers hold afterwards are those of
the unrolled reference, and refused where a sentence of ours is raised instead. Else it is wrong.
"""

import functools
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import rnode_dyn
from rnode_dyn import (
    DiscreteAdjoint,
    Dopri5,
    ODEProblem,
    RegularizedFlow,
    ReversibleAdjoint,
    Solver,
    solve,
)
from rnode_dyn.numerics.algorithms.base import Step
from tests.contract.cells import (
    DIVERGENCES,
    DT,
    END,
    REGULARIZERS,
    SEED,
    STEP_PENALTIES,
    Asked,
    Cell,
)
from tests.contract.fields import Case, Made
from tests.contract.fields.case import CONTINUOUS
from tests.contract.reference import Attempt, Dynamics, moved_by, unrolled, unrolled_pair

# A discrete adjoint differentiates the very steps; a continuous one an equation it solves itself.
PAIR = frozenset({"ReversibleAdjoint"})
EXACT_ERROR, CONTINUOUS_ERROR = 1e-8, 1e-4
# Two stages that are nearly the same leave little but rounding of their difference.
STAGES_ERROR = 1e-6


@dataclass(frozen=True)
class Numbers:
    """What a solve gives: values, gradients, and the buffers it leaves."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell, and what there is to say of it."""

    kind: Literal["right", "refused", "wrong", "raw"]
    what: str = ""


@dataclass(frozen=True)
class _Times:
    """The times of a solve, as tensors where gradients are wanted."""

    start: Any
    middle: Any
    end: Any

    @classmethod
    def of(cls, asked: Asked) -> "_Times":
        times = (0.0, DT, END)
        if not asked.times:
            return cls(*times)
        return cls(*(torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in times))

    def wanting(self, asked: Asked, adaptive: bool) -> dict[str, Tensor]:
        if not asked.times:
            return {}
        if asked.divergence is not None:
            return {"end_time": self.end}
        middle = {} if adaptive else {"save_at": self.middle}
        return {"t0": self.start, **middle, "t1": self.end}


def outcome(cell: Cell) -> Outcome:
    """Solve as a user would, and compare."""
    try:
        got = solved(cell)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Outcome("refused" if is_a_sentence(error) else "raw", said)
    trouble = _difference(got, expected(cell), cell)
    return Outcome("right") if trouble is None else Outcome("wrong", trouble)


def is_a_sentence(error: Exception) -> bool:
    """Whether an error is raised by us, in words."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    home = Path(rnode_dyn.__file__).parent
    raised = (place.line or "").startswith("raise") and home in Path(place.filename).parents
    return raised and len(str(error).split()) > 6


def solved(cell: Cell) -> Numbers:
    """Return what we compute."""
    made, times = cell.case.build(), _Times.of(cell.asked)
    x = made.x.requires_grad_()
    wanted = _keep_gradients({"x": x, **made.tensors, **times.wanting(cell.asked, cell.adaptive)})
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = _values(cell, cell.solver, made.field, x, times)
    return _numbers(values, wanted, made)


def _values(
    cell: Cell, solver: Solver, written: Callable, x: Tensor, times: _Times
) -> dict[str, Tensor]:
    asked = cell.asked
    if asked.divergence is None:
        problem = ODEProblem(written, x, (times.start, times.end))
        save_at = None if cell.adaptive else [times.middle, times.end]
        states = solve(problem, solver, save_at).x
        return {f"z{row}": state for row, state in enumerate(states)}
    regularizers = [(REGULARIZERS | STEP_PENALTIES)[name] for name in asked.penalties]
    divergence = DIVERGENCES[asked.divergence]
    flow = RegularizedFlow(written, solver, divergence, regularizers, times.end)
    z, log_det, penalties = flow(x)
    return {"z": z, "log_det": log_det, **penalties}


def expected(cell: Cell) -> Numbers:
    """Return what is right; the same for every sensitivity but the one that steps a pair."""
    return _expected(cell.case, cell.adaptive, cell.asked, cell.sensitivity in PAIR)


@functools.lru_cache(maxsize=64)
def _expected(case: Case, adaptive: bool, asked: Asked, pair: bool) -> Numbers:
    attempts = _tried(case, asked, pair) if adaptive else FIXED
    return referred(case, asked, attempts, adaptive, pair)


FIXED = (Attempt(0.0, DT), Attempt(DT, END - DT))


def referred(
    case: Case, asked: Asked, attempts: Sequence[Attempt], adaptive: bool, pair: bool = False
) -> Numbers:
    """Return what the reference computes over given steps."""
    made, times = case.build(), _Times.of(asked)
    x = made.x.requires_grad_()
    wanted = _keep_gradients({"x": x, **made.tensors, **times.wanting(asked, adaptive)})
    torch.manual_seed(SEED)
    noise = torch.randn((1, *x.shape), dtype=x.dtype) if asked.divergence == "hutchinson" else None
    dynamics = Dynamics(made.plain, None if noise is None else noise[0], asked.adds)
    begin = x
    if asked.times and asked.divergence is None:
        begin = moved_by(dynamics, {"z": x}, times.start, -1.0)["z"]
    coupling = ReversibleAdjoint().coupling
    states = (
        unrolled_pair(dynamics, begin, attempts, coupling)
        if pair
        else unrolled(dynamics, begin, attempts)
    )
    first, middle, last = states[0], states[len(states) // 2], states[-1]
    if asked.times:
        last = moved_by(dynamics, last, times.end, 1.0)
        middle = moved_by(dynamics, middle, times.middle, 1.0)
        # The state at the start does not move with it.
        first = {"z": x}
    rows = [first, last] if adaptive else [middle, last]
    alone = {f"z{row}": state["z"] for row, state in enumerate(rows)}
    return _numbers(alone if asked.divergence is None else last, wanted, made)


class _Noting(Dopri5):
    """Notes the steps that are tried."""

    def __init__(self, tried: list[tuple[float, float]]) -> None:
        super().__init__()
        self.tried = tried

    def advance(
        self, rhs: Any, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        if dt > 0:  # a pair also steps back
            self.tried.append((t, dt))
        return super().advance(rhs, t, dt, x, slope)


@torch.no_grad()
def _tried(case: Case, asked: Asked, pair: bool) -> tuple[Attempt, ...]:
    """The steps that the adaptive stepping tries; one that is not kept is tried again, shorter."""
    tried: list[tuple[float, float]] = []
    cell = Cell(case, "DiscreteAdjoint", True, Asked(asked.divergence, asked.penalties))
    made = case.build()
    torch.manual_seed(SEED)
    sensitivity = ReversibleAdjoint() if pair else DiscreteAdjoint()
    solver = Solver(_Noting(tried), cell.solver.stepping, sensitivity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _values(cell, solver, made.field, made.x, _Times.of(cell.asked))
    starts = [t for t, _ in tried[1:]] + [END]
    return tuple(Attempt(t, dt, after != t) for (t, dt), after in zip(tried, starts, strict=True))


def _keep_gradients(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for tensor in tensors.values():
        if not tensor.is_leaf:
            tensor.retain_grad()
    return tensors


def _numbers(values: dict[str, Tensor], wanted: dict[str, Tensor], made: Made) -> Numbers:
    loss = torch.stack([_weighed(value) for value in values.values()]).sum()
    if loss.requires_grad:
        loss.backward()
    buffers = dict(made.module.named_buffers()) if made.module is not None else {}
    return Numbers(
        {name: value.detach() for name, value in values.items()},
        {name: tensor.grad for name, tensor in wanted.items()},
        {name: buffer.detach().clone() for name, buffer in buffers.items()},
    )


def _weighed(value: Tensor) -> Tensor:
    """One number of a tensor, in which no two entries count alike."""
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype)
    return (weights * value.flatten().sin()).sum()


def _difference(got: Numbers, right: Numbers, cell: Cell) -> str | None:
    """Say what is not as it should be."""
    error = EXACT_ERROR if cell.sensitivity not in CONTINUOUS else CONTINUOUS_ERROR
    if "stiffness" in cell.asked.penalties:
        error = STAGES_ERROR
    troubles = [
        *_off("value", got.values, right.values, EXACT_ERROR),
        *_off("gradient", got.gradients, right.gradients, error),
        *_off("buffer", got.buffers, right.buffers, EXACT_ERROR),
    ]
    return "; ".join(troubles) or None


def _off(kind: str, got: dict[str, Any], right: dict[str, Any], error: float) -> Iterator[str]:
    for name, wanted in right.items():
        found = torch.zeros(()) if got.get(name) is None else got[name]
        wanted = torch.zeros(()) if wanted is None else wanted
        gap = float((found.double() - wanted.double()).abs().max())
        if not gap <= error * (float(wanted.abs().max()) + 0.1):
            size = float(wanted.abs().max())
            yield f"{kind} of {name}: off by {gap:.1e} of {size:.1e}"
