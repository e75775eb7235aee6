"""Looking at the gradients that autograd carries back through the steps of a solve."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.utils.hooks import RemovableHandle

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.checks import DeferredChecks, collecting, collector
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.closures import leaves_behind
from rnode_dyn.numerics.sensitivity.gradient_watch import GradientWatch
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep
from rnode_dyn.numerics.transforms import within_transform


class StepWatch:
    """Hooks a :class:`GradientWatch` into the graph of a solve, which alone keeps it alive.

    It holds no tensor of that graph, so that both go when the graph is let go.

    Args:
        problem: What is solved.
        stats: The solve's cost, for the error.
    """

    def __init__(self, problem: ODEProblem, stats: SolveStats) -> None:
        self.watch = GradientWatch(stats, problem.x0.device.type)
        self.t0 = problem.span[0]
        self.checks = collector()
        self.on_device = problem.x0.device.type != "cpu"

    def begin(self, x0: Tensor) -> Tensor:
        """Return the start as a tensor of its own, whose gradient is looked at."""
        if not (torch.is_grad_enabled() and x0.requires_grad):
            return x0
        start = x0.view_as(x0)
        start.register_hook(self._at_start)
        return start

    def over(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Pass the steps on, and look at the gradients of their ends on the way back."""
        first = True  # the last to come back, but for the start, if that is asked for
        for step in steps:
            if step.x1.requires_grad:
                step.x1.register_hook(partial(self._at_step_end, step.t1, -step.dt, first))
                if first:
                    self._look_at_leaves(step.slopes[0], step.x0)
                first = False
            yield step

    def over_samples(self, steps: Iterator[SampleStep], x0: Tensor) -> Iterator[SampleStep]:
        """The same of steps that samples take by themselves, from their part of the start."""
        first, batch = True, len(x0)
        for step in steps:
            if step.x1.requires_grad:
                note = partial(self.watch.note_samples, stretch=step.stretch, batch=batch)
                step.x1.register_hook(partial(self._at_end, note, first))
                if first:
                    self._look_at_leaves(step.unit.slopes[0], x0)
                first = False
            yield step

    @contextmanager
    def _resumed(self) -> Iterator[None]:
        """Go on with who collected the solve's checks, of whom autograd's thread knows nothing.

        Where nobody did, those of a device are read together when the backward pass ends.
        """
        if self.on_device and (self.checks is None or self.checks.closed):
            self.checks = DeferredChecks()
            Variable._execution_engine.queue_callback(self._conclude)  # type: ignore[attr-defined]
        with collecting(self.checks):
            yield

    def _conclude(self) -> None:
        checks, self.checks = self.checks, None
        if checks is not None:
            checks.conclude()

    def _at_start(self, grad: Tensor | None) -> None:
        with self._resumed():
            self.watch.note(grad, self.t0, 0.0)
            self.watch.conclude()
        self.watch.latest = None

    def _at_step_end(self, t: float, dt: float, is_first: bool, grad: Tensor | None) -> None:
        # Nobody is told of what is sound: most gradients are, and small steps are many.
        if self.checks is not None or not self.watch.is_sound(grad):
            self._at_end(partial(self.watch.note, t=t, dt=dt), is_first, grad)

    def _at_end(self, note: Callable[..., None], is_first: bool, grad: Tensor | None) -> None:
        with self._resumed():
            note(grad)
            if is_first:
                self.watch.conclude()

    def _look_at_leaves(self, slope: Tensor, start: Tensor) -> None:
        """Look at the gradients of the leaves that a slope was computed from, as they arrive.

        The hooks on the leaves go when the watch does.
        """
        if self.watch.idle or not slope.requires_grad or within_transform():
            return
        hook = partial(_call, weakref.WeakMethod(self._arrives))
        handles = [leaf.register_hook(hook) for leaf in leaves_behind(slope, (start,))]
        if handles:
            weakref.finalize(self, _remove, handles).atexit = False

    def _arrives(self, grad: Tensor) -> None:
        if self.checks is None and self.watch.is_sound_parameter(grad):
            return
        with self._resumed():
            self.watch.conclude_parameter(grad, self.t0)


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _call(method: weakref.WeakMethod, grad: Tensor) -> None:
    there = method()
    if there is not None:
        there(grad)
