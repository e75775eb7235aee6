"""Stock torchdyn solvers, by name or object, as algorithms."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchdyn.numerics.solvers.ode import ImplicitEuler, RungeKutta4, str_to_solver

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide


class TorchdynAlgorithm(nn.Module, Algorithm):
    """A torchdyn solver, hypersolvers included, behind the interface of our own algorithms.

    Args:
        solver: The torchdyn solver; parameters of its own train with the flow that holds it.
    """

    def __init__(self, solver: nn.Module) -> None:
        super().__init__()
        self.solver = _mended(solver)
        self.order = int(solver.order)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The torchdyn class's name."""
        return type(self.solver).__name__

    @property
    def embedded_order(self) -> int | None:
        """One less than the order, where torchdyn steps the solver adaptively."""
        return self.order - 1 if self.solver.stepping_class == "adaptive" else None

    @property
    def backpropagates(self) -> bool:
        """Implicit Euler ends in an optimiser, whose result is cut off from its input."""
        return not isinstance(self.solver, ImplicitEuler)

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step with the torchdyn solver."""
        times = torch.tensor([t, dt], dtype=x.dtype, device=x.device)
        x, times = self.solver.sync_device_dtype(x, times)  # type: ignore[operator]
        slope = rhs(t, x) if slope is None else slope
        end_slope, x1, error, *_ = self.solver.step(  # type: ignore[operator]
            _torchdyn_field(rhs), x, times[0], times[1], k1=slope
        )
        return Step(t, dt, x, x1, (slope,), None if error is None else error.detach(), end_slope)

    def __repr__(self) -> str:
        return f"TorchdynAlgorithm({self.name})"


def _mended(solver: nn.Module) -> nn.Module:
    """Give torchdyn's rk4 its times: the tableau has one more than its stepper reads.

    Without this, stages are evaluated at 0, ½ and ½ instead of ½, ½ and 1 of the step, and the
    method is of order 1 wherever the field depends on time.
    """
    if not isinstance(solver, RungeKutta4) or len(solver.tableau[0]) == 3:
        return solver
    times, slopes, solution, error = solver.tableau
    mended = copy.copy(solver)
    mended.tableau = (times[1:], slopes, solution, error)
    return mended


def _torchdyn_field(rhs: RightHandSide) -> Callable[..., Tensor]:
    def field(t: Tensor, x: Tensor, args: Any = None) -> Tensor:  # torchdyn's
        return rhs(float(t), x)

    return field


def as_algorithm(given: object) -> Algorithm:
    """Return ``given`` as an algorithm: one of ours, a torchdyn solver, or a torchdyn name.

    Raises:
        TypeError: if it is none of these.
        ValueError: if torchdyn has no solver of this name.
    """
    if isinstance(given, Algorithm):
        return given
    if isinstance(given, type) and issubclass(given, Algorithm):
        raise TypeError(f"algorithm is the class {given.__name__}; write {given.__name__}().")
    if isinstance(given, str):
        return TorchdynAlgorithm(_by_name(given))
    if isinstance(given, nn.Module) and hasattr(given, "step") and hasattr(given, "order"):
        return TorchdynAlgorithm(given)
    raise TypeError(
        f"algorithm is a {type(given).__name__}; write one of rnode_dyn's, such as Tsit5(), a "
        'torchdyn solver object, or the name of one, such as "dopri5".'
    )


def _by_name(name: str) -> nn.Module:
    try:
        return str_to_solver(name)
    except KeyError:
        raise ValueError(
            f"torchdyn has no solver named {name!r}; write an algorithm such as Tsit5(), or one of "
            'torchdyn\'s names: "euler", "midpoint", "rk4", "dopri5", "tsit5", "ieuler", "alf".'
        ) from None
