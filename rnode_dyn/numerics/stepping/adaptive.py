"""Steps as long as their estimated error allows: try, judge, choose the next one's length."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._pytree import tree_is_leaf, tree_map

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.errors import (
    MaxSecondsError,
    MaxStepsError,
    NonFiniteStateError,
    SolverError,
    StepSizeUnderflowError,
)
from rnode_dyn.numerics.numbers import positive, whole
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import SolveStats, evaluations
from rnode_dyn.numerics.stepping.by_sample.control import AdaptiveControl, Control, Limits
from rnode_dyn.numerics.stepping.controller import PIController, initial_step
from rnode_dyn.numerics.stepping.deadline import Deadline, too_long
from rnode_dyn.numerics.stepping.error_norm import (
    ErrorNorm,
    NormName,
    named_norm,
    sample_norm,
    worst_sample,
)
from rnode_dyn.numerics.stepping.unsolved import not_solved
from rnode_dyn.numerics.transforms import is_batched


@dataclass(frozen=True)
class AdaptiveStep:
    """Steps as long as the estimated error allows, under PI control.

    The error of a step is measured relative to ``atol + rtol · max(|x0|, |x1|)`` (Hairer, Nørsett
    & Wanner, Solving ODEs I, II.4).

    Args:
        rtol: Relative tolerance: a number; or one for each leaf of a structured state, in a
            structure like it; or one for each entry of a sample, in a tensor of its shape.
        atol: Absolute tolerance, likewise.
        first_step: Length of the first step that is tried; left out, it is estimated.
        max_steps: Steps, rejected ones included, after which the solve gives up.
        norm: ``"rms"`` averages the error over the batch, as other libraries do; with ``"max"``
            every sample meets the tolerance, whatever it is batched with.
        per_sample: Whether every sample accepts and rejects by itself, with a time, a step length
            and a ``max_steps`` of its own, as in torchode (Lienen & Günnemann 2022). One that has
            arrived is not evaluated any more. Its result is that of solving it alone.
        max_seconds: Seconds after which the solve gives up; left out, it may take any time.

    Example:
        >>> AdaptiveStep(rtol=1e-3, atol=1e-6, norm="max")  # doctest: +NORMALIZE_WHITESPACE
        AdaptiveStep(rtol=0.001, atol=1e-06, first_step=None, max_steps=10000, norm='max',
                     per_sample=False)
    """

    rtol: Any = 1e-5
    atol: Any = 1e-5
    first_step: float | None = None
    max_steps: int = 10_000
    norm: NormName = "rms"
    per_sample: bool = False
    max_seconds: float | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            object.__setattr__(self, name, _tolerance(name, getattr(self, name)))
        for name in ("first_step", "max_seconds"):
            if getattr(self, name) is not None:
                number = positive("AdaptiveStep", name, getattr(self, name))
                object.__setattr__(self, name, number)
        object.__setattr__(self, "max_steps", whole("AdaptiveStep", "max_steps", self.max_steps))
        if self.norm not in ("rms", "max"):
            raise ValueError(
                f'AdaptiveStep: norm is {self.norm!r}; write "rms" (error averaged over the '
                'batch) or "max" (every sample meets the tolerance).'
            )
        if not isinstance(self.per_sample, bool):
            raise TypeError(
                f"AdaptiveStep: per_sample is {self.per_sample!r}; write True (every sample steps "
                "by itself) or False (the whole batch steps together)."
            )
        if self.per_sample and self.norm != "rms":
            raise ValueError(
                f'AdaptiveStep: norm="{self.norm}" says how the errors of a batch become one '
                "number, and with per_sample=True every sample has its own: leave norm out."
            )

    def check(self, algorithm: Algorithm) -> None:
        """Refuse an algorithm that cannot tell its error."""
        if algorithm.embedded_order is None:
            raise ValueError(
                f"{algorithm.name} has no error estimate, so AdaptiveStep cannot choose its steps: "
                "write FixedStep(0.25), or take an embedded method such as Dopri5() or Tsit5()."
            )
        if self.per_sample and algorithm.is_implicit:
            raise ValueError(
                f"{algorithm.name} solves for all samples at one time, and "
                "AdaptiveStep(per_sample=True) has each at its own: drop per_sample, and say "
                'norm="max" for every sample to meet the tolerance.'
            )

    def error_norm(self, mask: Tensor | None) -> ErrorNorm:
        """Return the norm of the errors under control."""
        return named_norm(self.norm, mask)

    def steps(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,
        norm: ErrorNorm,
    ) -> Iterator[Step]:
        """Yield the accepted steps.

        Raises:
            RuntimeError: within ``vmap``, where no error can be read and no step chosen.
        """
        refuse_batched(x)
        return AdaptiveSolve(self, algorithm, rhs, x, t_span, stats, norm).run()

    def sample_control(self, algorithm: Algorithm, mask: Tensor | None, batch: int) -> Control:
        """Return what lets every sample choose its own steps."""
        limits = Limits(
            self.rtol,
            self.atol,
            self.first_step,
            self.max_steps,
            self.too_many(algorithm),
            self.max_seconds,
        )
        return AdaptiveControl(limits, algorithm, sample_norm(mask), batch)

    def too_many(self, algorithm: Algorithm) -> str:
        """Say what may have asked for so many steps, and what to write."""
        small = f"the tolerance too small for a method of order {algorithm.order}"
        blame, mend = f"the field is stiff or {small}", "Rodas5P(), made for stiff fields, or "
        if algorithm.is_implicit:
            blame, mend = small, ""
        return (
            f"the end of the time span was not reached in {self.max_steps} steps: {blame}; take "
            f"{mend}a method of higher order, or raise rtol and atol, or "
            "AdaptiveStep(max_steps=…)"
        )


def _tolerance(name: str, given: Any) -> Any:
    """A positive number, a tensor of such, or a structure of either."""
    if isinstance(given, Tensor) and given.dim() > 0:
        if given.requires_grad or not bool((given > 0).all() & given.isfinite().all()):
            raise ValueError(
                f"AdaptiveStep: {name} is a tensor that holds something else than positive "
                "numbers, or wants a gradient: write .detach(), and values above 0."
            )
        return given
    if tree_is_leaf(given):
        return positive("AdaptiveStep", name, given)
    return tree_map(lambda leaf: _tolerance(name, leaf), given)


def refuse_batched(tensor: Tensor) -> None:
    """Raise where a tensor stands for many, whose errors cannot be read."""
    if is_batched(tensor):
        raise RuntimeError(
            "AdaptiveStep chooses its steps by the size of an error, which cannot be read within "
            "vmap (jacfwd, hessian, …): solve the batch as one problem, or take FixedStep(dt)."
        )


def _error_order(algorithm: Algorithm) -> int:
    """Order of the local error of the less accurate of a step's two solutions."""
    return min(algorithm.order, algorithm.embedded_order or 0) + 1


class AdaptiveSolve:
    """The state of one adaptive solve; ``run`` yields its accepted steps."""

    def __init__(
        self,
        settings: AdaptiveStep,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,
        norm: ErrorNorm,
    ) -> None:
        self.settings, self.rhs = settings, rhs
        self.algorithm = algorithm.started((settings.rtol, settings.atol))
        self.t, self.end = t_span
        self.direction = 1 if self.end > self.t else -1
        self.x, self.stats, self.norm = x, stats, norm
        self.error_order = _error_order(algorithm)
        self.tried = 0
        self.deadline = Deadline(settings.max_seconds)

    def run(self) -> Iterator[Step]:
        """Yield the accepted steps."""
        slope = self._first_slope()
        length = self._first_length(slope)
        controller = PIController(self.error_order)
        while self.t != self.end:
            step, ratio = self._try(length, slope)
            self.stats.note_step(step.t, step.dt, ratio, accepted=ratio <= 1.0)
            controller.error_order = _error_order(step.made_by or self.algorithm)
            if ratio <= 1.0:
                yield step
                self.t, self.x = step.t1, step.x1
                slope = step.slope_at_end(self.rhs) if self.t != self.end else slope
                length *= controller.after_acceptance(ratio)
            else:
                length = abs(step.dt) * controller.after_rejection(ratio)
                self._check_length(length, step, ratio)

    def _first_slope(self) -> Tensor:
        self._check_finite(self.x, "the state to start from is not finite")
        slope = self.rhs(self.t, self.x)
        refuse_batched(slope)
        self._check_finite(slope, "the field is not finite at the start")
        return slope

    def _check_finite(self, at_start: Tensor, reason: str) -> None:
        """Where the check is put off, no step will be accepted, and the solve breaks down here."""
        given, nfe = at_start.detach(), evaluations(self.rhs)
        check(
            torch.isfinite(given).all(),
            lambda: self._error(NonFiniteStateError, reason, 0.0, given).changed(steps=0, nfe=nfe),
        )

    def _first_length(self, slope: Tensor) -> float:
        if self.settings.first_step is not None:
            return self.settings.first_step
        tolerances = (self.settings.rtol, self.settings.atol)
        return initial_step(
            self.rhs,
            (self.t, self.end),
            self.x,
            slope,
            self.error_order,
            tolerances,
            self.norm,
        )

    def _try(self, length: float, slope: Tensor) -> tuple[Step, float]:
        """Make one step, and return it with its error as a multiple of the tolerance."""
        remaining = abs(self.end - self.t)
        # A step that would leave a sliver takes it along.
        last = length >= remaining * (1 - 1e-6)
        dt = self.end - self.t if last else self.direction * length
        self._spend_step(dt, slope)
        step = self.algorithm.advance(self.rhs, self.t, dt, self.x, slope)
        if last:
            # t + dt must be the end itself, and not the nearest sum of floats.
            step.ends_at = self.end
        return step, self._ratio(step)

    def _spend_step(self, dt: float, slope: Tensor) -> None:
        if self.tried == self.settings.max_steps:
            self._fail(MaxStepsError, self.settings.too_many(self.algorithm), dt, slope)
        if self.deadline.has_passed:
            self._fail(MaxSecondsError, too_long(self.settings.max_seconds), dt, slope)
        self.tried += 1

    @torch.no_grad()
    def _scaled_error(self, step: Step) -> Tensor:
        assert step.error is not None  # check() admits no algorithm without an estimate
        scale = torch.maximum(step.x0.abs(), step.x1.abs()).mul_(self.settings.rtol)
        return step.error / scale.add_(self.settings.atol)

    @torch.no_grad()
    def _ratio(self, step: Step) -> float:
        """Error over tolerance; infinite where the step left the finite numbers anywhere."""
        ratio = self.norm(self._scaled_error(step))
        # Entries outside error control must be finite too; one number tells both.
        value = float(torch.where(torch.isfinite(step.x1).all(), ratio, math.inf))
        return value if math.isfinite(value) else math.inf

    def _check_length(self, length: float, step: Step, ratio: float) -> None:
        """Give up once steps no longer move the time."""
        # The field is given the time in the state's precision; the stepping itself has a float's.
        of_the_field = 4 * torch.finfo(self.x.dtype).eps * abs(self.t)
        of_the_stepping = 4 * sys.float_info.epsilon * max(abs(self.t), abs(self.end))
        if length > max(of_the_field, of_the_stepping):
            return
        dt = self.direction * length
        if step.failure is not None:
            raise not_solved(step, self.tried, self.rhs)
        if math.isinf(ratio):
            reason = "the state or the field is not finite right after this time"
            self._fail(NonFiniteStateError, reason, dt, step.x1)
        self._fail(
            StepSizeUnderflowError,
            "the tolerance asks for a step too short to change the time in this precision: "
            "raise rtol and atol, or solve in float64",
            dt,
            self._scaled_error(step),
        )

    def _fail(self, kind: type[SolverError], reason: str, dt: float, blame: Tensor) -> NoReturn:
        raise self._error(kind, reason, dt, blame)

    def _error(self, kind: type[SolverError], reason: str, dt: float, blame: Tensor) -> SolverError:
        return kind(
            reason,
            t=self.t,
            dt=dt,
            steps=self.tried,
            nfe=evaluations(self.rhs),
            worst_sample=int(worst_sample(blame)),
        )
