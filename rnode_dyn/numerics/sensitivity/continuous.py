"""The continuous adjoint equation, as the two continuous sensitivities solve it backwards.

With a = ∂loss/∂x(t) and g = ∂loss/∂θ (Chen et al., NeurIPS 2018, equations 4 and 5):
da/dt = −aᵀ ∂f/∂x and dg/dt = −aᵀ ∂f/∂θ, from the end of the time span to its start; every
saved state adds its own gradient to a when the solve passes its time.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.checks import check, retelling
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import Adjoint, AdjointRun, Gradients
from rnode_dyn.numerics.sensitivity.closures import refuse_unnamed_tensors
from rnode_dyn.numerics.sensitivity.naming import described
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep
from rnode_dyn.numerics.stepping.base import Stepping
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm
from rnode_dyn.numerics.stepping.integrator import Integrator


class ContinuousRun(AdjointRun):
    """Solves the adjoint equation between the saved times, from the last to the first.

    The adjoint state is one flat vector of parts: what ``parts`` of the subclass put before it,
    then a, then g.
    """

    def __init__(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> None:
        super().__init__(problem, integrator, times, stats)
        self.used: list[bool] = []
        self.same: list[Tensor] = []

    def prepare(self) -> None:
        """Refuse a field that is not the same function whenever it is evaluated."""
        if self.draws:
            raise ValueError(
                f"{self.name} solves an equation of its own, whose evaluations are others than the "
                "forward solve's, and this field draws random numbers (dropout, noise) at each: "
                "freeze them for the solve, FrozenNoise(field), call field.eval(), or take "
                "DiscreteAdjoint() or CheckpointedAdjoint()."
            )
        if self.written:
            changed = described(self.written[0][0], self.problem.field)
            raise ValueError(
                f"{self.name} solves an equation of its own, whose evaluations are others than the "
                f"forward solve's, and this field changes {changed} at each (a "
                "buffer: batch normalisation, spectral_norm, a counter): call field.eval(), or "
                "take DiscreteAdjoint() or CheckpointedAdjoint()."
            )
        self.used = [False] * len(self.parameters)

    @abstractmethod
    def slopes(self, t: float, y: Tensor) -> Tensor:
        """Return d/dt of the flat adjoint state."""

    @abstractmethod
    def error_norm(self) -> ErrorNorm:
        """Return the norm that adaptive steps judge the flat adjoint state by."""

    @abstractmethod
    def pack(self, row: int | None, adjoint: Tensor, gradient: Tensor) -> Tensor:
        """Return the flat adjoint state at saved row ``row`` (``None``: the end of the span)."""

    @abstractmethod
    def unpack(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and g of a flat adjoint state."""

    @abstractmethod
    def take_back(self, kept: Sequence[Tensor]) -> None:
        """Take back what ``release`` handed over, for the time of the backward pass."""

    @abstractmethod
    def let_go(self) -> None:
        """Forget it again."""

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> Gradients:
        """Solve the adjoint equation and hand out its parts."""
        self.same = []
        self.take_back(kept)
        try:
            gradients = self._solve_back(grad)
        finally:
            self.let_go()
        self._refuse_another_field()
        return gradients

    def note(self, again: Tensor, before: Tensor | None) -> None:
        """Note whether a slope of the backward solve is the one that the forward solve had there.

        What a field keeps in no tensor, a counter say, shows in nothing else.
        """
        if before is not None:
            self.same.append(is_same(again, before))

    def _refuse_another_field(self) -> None:
        if self.same:
            check(torch.stack(self.same).all(), partial(_another_field, self.name))

    def _solve_back(self, grad: Tensor) -> Gradients:
        adjoint = torch.zeros_like(grad[0])
        gradient = adjoint.new_zeros(self._size())
        for row, start, end in self._spans():
            if row is not None:
                adjoint = adjoint + grad[row]
            if start != end:
                y = self._solve(self.pack(row, adjoint, gradient), (start, end))
                adjoint, gradient = self.unpack(y)
        return adjoint, self._per_parameter(gradient)

    def _spans(self) -> Iterator[tuple[int | None, float, float]]:
        """Yield (row saved at the span's start, start, end), backwards through the solve."""
        t0, t1 = self.problem.span
        ends = [*self.times[:-1][::-1], t0]
        if self.times[-1] != t1:
            yield None, t1, self.times[-1]
        rows = reversed(range(len(self.times)))
        yield from zip(rows, reversed(self.times), ends, strict=True)

    def _solve(self, y: Tensor, t_span: tuple[float, float]) -> Tensor:
        algorithm, stepping = self.integrator.algorithm, self._stepping(len(y))
        counts, norm = SolveStats(), self.error_norm()
        with retelling(self._of_samples):
            for step in stepping.steps(algorithm, self.slopes, y, t_span, counts, norm):
                y = step.x1
        return y

    def _stepping(self, entries: int) -> Stepping:
        """The stepping; tolerances of each entry of a sample are laid out along the vector.

        A part of the adjoint has the tolerance of its part of the state, the gradient the least.
        """
        stepping, x0 = self.integrator.stepping, self.problem.x0
        if not isinstance(stepping, AdaptiveStep):
            return stepping
        of_parameters = self._size()

        def along(tolerance: Any) -> Any:
            if isinstance(tolerance, float):
                return tolerance
            parts = [tolerance.expand(x0.shape).reshape(-1)]
            parts *= (entries - of_parameters) // x0.numel()
            return torch.cat([*parts, tolerance.min().expand(of_parameters)])

        return replace(stepping, rtol=along(stepping.rtol), atol=along(stepping.atol))

    def _forward_steps(self) -> Iterator[Step]:
        """The steps of the forward solve."""
        return self.integrator.steps(self.problem, self.forward_field, self.stats)

    def _of_samples(self, error: SolverError) -> SolverError:
        """The flat state has no samples; say which one the failing entry belongs to."""
        size, batch = self.problem.x0[0].numel(), len(self.problem.x0)
        nfe = self.stats.nfe + self.stats.nfe_backward
        return error.changed(worst_sample=(error.worst_sample // size) % batch, nfe=nfe)

    def vjp(self, t: float, x: Tensor, adjoint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return f, aᵀ ∂f/∂x and the flat aᵀ ∂f/∂θ."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            slope = self.backward_field(t, x)
        if not slope.requires_grad:
            return slope, torch.zeros_like(x), adjoint.new_zeros(self._size())
        refuse_unnamed_tensors(slope, (x, *self.parameters), self.problem.field)
        by_x, *by_parameters = self.pull_back([slope], x, [adjoint.detach()])
        by_x = torch.zeros_like(x) if by_x is None else by_x
        return slope.detach(), by_x, self._flat(by_parameters)

    def _size(self) -> int:
        """How many real numbers the parameters are."""
        return sum(map(_real_numbers, self.parameters))

    def _flat(self, gradients: Sequence[Tensor | None]) -> Tensor:
        self.used = [was or now is not None for was, now in zip(self.used, gradients, strict=True)]
        parts = [
            _as_real(torch.zeros_like(p) if gradient is None else gradient)
            for p, gradient in zip(self.parameters, gradients, strict=True)
        ]
        return torch.cat(parts) if parts else self.problem.x0.new_zeros(0)

    def _per_parameter(self, gradient: Tensor) -> list[Tensor | None]:
        """Cut the flat gradient up; a parameter that the field never uses has none."""
        sizes = [_real_numbers(p) for p in self.parameters]
        parts = gradient.split(sizes) if self.parameters else ()
        return [
            _as_parameter(part, p) if used else None
            for part, p, used in zip(parts, self.parameters, self.used, strict=True)
        ]


def _real_numbers(parameter: Tensor) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _as_real(gradient: Tensor) -> Tensor:
    """A gradient as a row of real numbers: real and imaginary parts are integrated alike."""
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.reshape(-1)


def _as_parameter(part: Tensor, parameter: Tensor) -> Tensor:
    if parameter.is_complex():
        part = torch.complex(*part.reshape(*parameter.shape, 2).unbind(-1))
    return part.view_as(parameter).to(parameter.dtype)


def _another_field(name: str) -> RuntimeError:
    return RuntimeError(
        f"the field that {name} goes back along is not the one it solved: at the same time and "
        "state it comes out different now, so that it depends on something that changes (a "
        "counter, a buffer put in another's place, numbers drawn from elsewhere): keep it fixed "
        "from the solve to its gradient, or take DiscreteAdjoint()."
    )


class ContinuousAdjoint(Adjoint):
    """An adjoint of the ODE, stepped by the forward solve's algorithm."""

    def check_algorithm(self, algorithm: Algorithm) -> None:
        """Refuse a method that the adjoint equation, one vector's, is not made for."""
        if algorithm.is_implicit:
            raise ValueError(
                f"{type(self).__name__} would solve the adjoint equation by {algorithm.name}, with "
                "a matrix as large as the whole batch and all parameters: take DiscreteAdjoint() "
                "or CheckpointedAdjoint(), whose gradient is exact."
            )

        if algorithm.is_symplectic:
            raise ValueError(
                f"{type(self).__name__} would solve the adjoint equation by {algorithm.name}, "
                "which steps the halves of a separable Hamiltonian and no other field: take "
                "DiscreteAdjoint(), CheckpointedAdjoint() or ReversibleAdjoint(), whose gradient "
                "is exact."
            )

    def check(self, algorithm_parameters: Sequence[Tensor]) -> None:
        """Refuse a hypersolver: its network corrects steps of the state, not of the adjoint."""
        if algorithm_parameters:
            raise ValueError(
                f"{type(self).__name__} would step the adjoint with a hypersolver's network, which "
                "knows the state alone: take DiscreteAdjoint() or CheckpointedAdjoint()."
            )
