"""The reversible adjoint: a pair of states whose way back is found from the end alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.numbers import as_number
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import Adjoint, AdjointRun, Gradients, add_up
from rnode_dyn.numerics.sensitivity.closures import refuse_unnamed_tensors
from rnode_dyn.numerics.sensitivity.coupled import CoupledAlgorithm, Coupling
from rnode_dyn.numerics.sensitivity.gradient_watch import GradientWatch
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps
from rnode_dyn.numerics.sensitivity.replay import (
    Mark,
    RecordedAlgorithm,
    RecordedField,
    Replay,
    ReplayedField,
)
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.dense import StateReader
from rnode_dyn.numerics.stepping.integrator import Integrator

_ELSEWHERE = (
    "ReversibleAdjoint went back along the steps and did not come out where they began, so that "
    "its gradient would be wrong: either the field depends on something that changes between two "
    "evaluations (a counter, numbers from elsewhere), or rounding has grown on the way, as it does "
    "over many steps, in low precision, and where the field contracts strongly. Solve in float64, "
    "take fewer or shorter steps, or CheckpointedAdjoint()."
)


@dataclass
class _Made:
    """A step that was made: when, which rows it saved, and what its evaluations found."""

    t: float
    dt: float
    ends_at: float | None
    rows: list[int] = field(default_factory=list)
    marks: Sequence[Mark] = ()
    marks_back: Sequence[Mark] = ()


@dataclass
class _Pair:
    """The two states, and the gradients by them; that of the second is ``None`` while it is 0."""

    y: Tensor
    z: Tensor
    by_y: Tensor
    by_z: Tensor | None = None


class ReversibleRun(AdjointRun):
    """Forward: step the pair, and keep its end. Backward: take the steps back one by one."""

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
        strength: float,
    ) -> None:
        super().__init__(problem, integrator, times, stats)
        self.backward_field = self.replayed = ReplayedField(problem, stats)
        self.coupling = Coupling(integrator.algorithm, strength)
        self.recorded: RecordedField | None = None
        self.made: list[_Made] = []
        self.kept: tuple[Tensor, ...] = ()
        self.saves_start = times[0] == problem.span[0]

    def prepare(self) -> None:
        """Note from now on what the field's evaluations find, if that changes."""
        self.replay = Replay(self.problem.x0.device, self.written, self.random, self.draws)
        if self.replay.is_needed:
            known = self.forward_field.known
            self.forward_field = self.recorded = RecordedField(
                self.problem, self.stats, self.replay
            )
            self.recorded.known = known

    def forward(self, x0: Tensor) -> Tensor:
        """Step the pair; of the states only the last ones are kept."""
        self.made = []
        algorithm = CoupledAlgorithm(replace(self.coupling, algorithm=self._method()), self._noted)
        integrator = replace(self.integrator, algorithm=algorithm)
        reader = integrator.reader(self.forward_field, self.times)
        states = [state for _, state in reader.at_start(self.problem.span[0], x0)]
        for step in integrator.steps(self.problem, self.forward_field, self.stats):
            made = _Made(step.t, step.dt, step.ends_at)
            self.made.append(made)
            for row, state in reader.within(step):
                made.rows.append(row)
                states.append(state)
            made.marks = self._marks()
        last = algorithm.latest
        assert last is not None  # a span has a step
        assert last.partner is not None
        self.kept = (last.x1.detach(), last.partner.detach())
        return torch.stack(states)

    def _method(self) -> Algorithm:
        method = self.coupling.algorithm
        return method if self.recorded is None else RecordedAlgorithm(method, self.recorded)

    def _marks(self) -> Sequence[Mark]:
        return () if self.recorded is None else tuple(self.recorded.marks)

    def _noted(self) -> None:
        self.made[-1].marks_back = self._marks()

    def release(self) -> tuple[Tensor, ...]:
        """Hand over the end of the first state, and the second one's before the last step."""
        kept, self.kept = self.kept, ()
        return kept

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> Gradients:
        """Take the steps back from the last to the first, and differentiate each."""
        watch = GradientWatch(self.stats, grad.device.type)
        pair = _Pair(*kept, by_y=torch.zeros_like(grad[0]))
        totals: Sequence[Tensor | None] = [None] * len(self.parameters)
        with self.replay.undone():
            for made in reversed(self.made):
                if made is not self.made[-1]:
                    totals = add_up(totals, self._unfollow(made, pair))
                totals = add_up(totals, self._step_back(made, pair, grad))
                watch.note(pair.by_y, made.t, -made.dt)
        start = self.problem.x0.detach()
        same = [is_same(pair.y, start), is_same(pair.z, start)]
        adjoint = pair.by_y if pair.by_z is None else pair.by_y + pair.by_z
        watch.conclude_all(totals, self.problem.span[0], same, _ELSEWHERE)
        return (adjoint + grad[0] if self.saves_start else adjoint), totals

    def _unfollow(self, made: _Made, pair: _Pair) -> Sequence[Tensor | None]:
        """Take back how the second state followed a step; return the parameters' gradients."""
        assert pair.by_z is not None  # there has been a step after this one
        self.replayed.follow(self.replay, made.marks_back)
        with torch.enable_grad():
            y = pair.y.detach().requires_grad_()
            back = self.coupling.algorithm.advance(self.replayed, made.t + made.dt, -made.dt, y).x1
        by_y, gradients = self._pull([back], y, [-pair.by_z])
        pair.z = self.coupling.followed(back.detach(), pair.y, pair.z)
        pair.by_y = pair.by_y + pair.by_z + by_y
        return gradients

    def _step_back(self, made: _Made, pair: _Pair, grad: Tensor) -> Sequence[Tensor | None]:
        """Take the first state's step back, and the rows it saved, likewise."""
        self.replayed.follow(self.replay, made.marks)
        method, wanted = self.coupling.algorithm, [self.times[row] for row in made.rows]
        with torch.enable_grad():
            z = pair.z.detach().requires_grad_()
            inner = method.advance(self.replayed, made.t, made.dt, z)
            inner.ends_at = made.ends_at
            # What is saved moves with the two states as the end does: all are read off one step.
            saved = StateReader(method, self.replayed, wanted).all(z, made.t, [inner])
        y = self.coupling.before(inner.x1.detach(), pair.y, pair.z)
        by_saved = [grad[row] for row in made.rows]
        by_z, gradients = self._pull([inner.x1, *saved], z, [pair.by_y, *by_saved])
        by_difference = self.coupling.strength * sum(by_saved, pair.by_y)
        before = torch.zeros_like(by_z) if pair.by_z is None else pair.by_z
        pair.y, pair.by_y, pair.by_z = y, by_difference, before + by_z - by_difference
        return gradients

    def _pull(
        self, outputs: Sequence[Tensor], x: Tensor, grads: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        refuse_unnamed_tensors(outputs[0], (x, *self.parameters), self.problem.field)
        by_x, *gradients = self.pull_back(outputs, x, grads)
        return torch.zeros_like(x) if by_x is None else by_x, gradients


@dataclass(frozen=True)
class ReversibleAdjoint(Adjoint):
    """Exact gradients in memory that does not grow with the steps (McCallum & Foster, "Efficient,
    Accurate and Stable Gradients for Neural ODEs", 2024).

    The algorithm steps a pair of states, each from the other, and the way back is found by taking
    the steps back from the pair's end: nothing is stored on the way but the times of the steps
    (and, of a field that draws random numbers or writes to buffers, what its evaluations found).
    The gradient is that of what was computed, to the rounding of the way back; where that does not
    end at the start, an error says so. Any algorithm will do but a hypersolver, with fixed and
    with adaptive steps.

    **The states are those of the pair**: another number than the algorithm's own, of the same
    order. Each step takes two of the algorithm's, so that a solve and its gradient cost about
    twice the evaluations of :class:`CheckpointedAdjoint`.

    Args:
        coupling: How strongly the first state goes on from itself instead of from the second, in
            (0, 1]. Less is steadier where the field contracts, and lets rounding grow faster on the
            way back, by 1/coupling a step.

    Raises:
        TypeError: if ``coupling`` is no number.
        ValueError: if it does not lie in (0, 1].

    Example:
        >>> from rnode_dyn import RK4, FixedStep, ODEProblem, Solver, solve
        >>> x0 = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
        >>> decay = ODEProblem(lambda t, x: -x, x0, (0.0, 1.0))
        >>> solver = Solver(RK4(), FixedStep(1 / 64), ReversibleAdjoint())
        >>> solve(decay, solver).x[-1].sum().backward()
        >>> round(x0.grad.item(), 6)  # exp(-1)
        0.367879
    """  # noqa: D205  # the citation belongs to the first sentence

    coupling: float = 0.99

    def __post_init__(self) -> None:
        given = as_number(self.coupling)
        if given is None:
            raise TypeError(f"ReversibleAdjoint: coupling is {self.coupling!r}; write a number.")
        if not 0 < given <= 1:
            raise ValueError(
                f"ReversibleAdjoint: coupling is {given}; write a number above 0, without which "
                "there is no way back, and at most 1, such as 0.99."
            )
        object.__setattr__(self, "coupling", given)

    def check(self, algorithm_parameters: Sequence[Tensor]) -> None:
        """Refuse a hypersolver: its network knows steps ahead, and half of these go back."""
        if algorithm_parameters:
            raise ValueError(
                "ReversibleAdjoint would step back by a hypersolver's network, which knows steps "
                "ahead alone: take DiscreteAdjoint() or CheckpointedAdjoint()."
            )

    def check_algorithm(self, algorithm: Algorithm) -> None:
        """Refuse one that changes its method: the way back would have to be made by the same."""
        if algorithm.switches:
            raise ValueError(
                f"ReversibleAdjoint takes each step back by the method that made it, and "
                f"{algorithm.name} changes between two: take DiscreteAdjoint() or "
                "CheckpointedAdjoint()."
            )

    def start(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that steps the pair."""
        refuse_opaque_steps(problem, integrator)
        return ReversibleRun(problem, integrator, times, stats, self.coupling)
