"""Hooking a backward pass of our own into autograd; what all adjoints share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.checks import collecting, collector, deferred_checks, retelling
from rnode_dyn.numerics.errors import SolverError, first_line
from rnode_dyn.numerics.once import once
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.random_state import TorchRandomState, other_random_state, same_state
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.gradient_watch import said_of_the_backward_pass
from rnode_dyn.numerics.sensitivity.hooks import histories_cut, hooks_at_rest
from rnode_dyn.numerics.sensitivity.naming import described
from rnode_dyn.numerics.sensitivity.reach import Reach
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.integrator import Integrator
from rnode_dyn.numerics.transforms import is_batched, within_transform

Gradients = tuple[Tensor, Sequence[Tensor | None]]


class AdjointRun(ABC):
    """One solve and its backward pass.

    Args:
        problem: What is solved.
        integrator: How; its algorithm and stepping also serve the backward pass.
        times: When the state is wanted.
        stats: Where both passes are counted.
    """

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
    ) -> None:
        self.problem, self.integrator, self.times, self.stats = problem, integrator, times, stats
        own = [p for p in integrator.parameters if p.requires_grad]
        self.parameters: tuple[Tensor, ...] = (*problem.differentiable, *own)
        self.forward_field = CountedField(problem, stats)
        self.backward_field = CountedField(problem, stats, "nfe_backward")
        self.autocast = _autocast_as_now(problem.x0.device.type)
        self.checks = collector()
        self.name = "this sensitivity"
        self.written: list[tuple[Tensor, Tensor]] = []
        self.read: list[tuple[Tensor, int]] = []
        self.draws = False

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Go on as when the solve was made: in its autocast, and with who collected its checks.

        Autograd's thread for a device knows nothing of either.
        """
        with torch.no_grad(), self.autocast(), collecting(self.checks):
            yield

    def look(self) -> None:
        """Evaluate the field where the solve begins, and see what it uses and changes.

        The slope serves the solve as its first: looking costs no evaluation.
        """
        self.others = OtherRandomNumbers()
        self.random = TorchRandomState.now(self.problem.x0.device)
        # An alias: a field that has closed over the start uses it as something else than its state.
        x0 = self.problem.x0.detach()
        with torch.no_grad(), Reach() as reach:
            self.first = self.forward_field(self.problem.span[0], x0)
        self.forward_field.known = self.first
        self.written, self.draws = reach.written, not self.random.is_now()
        changing = {id(tensor) for tensor, _ in reach.written}
        self.read = [(tensor, v) for tensor, v in reach.read if id(tensor) not in changing]
        found = {id(p): p for p in (*self.parameters, *reach.wanting)}
        self.parameters = tuple(found.values())

    def prepare(self) -> None:  # noqa: B027  # most need nothing
        """Get ready for a backward pass, given what was seen; refuse what it could not undo."""

    def forward_once(self, x0: Tensor) -> Tensor:
        """Solve, and see that the field did nothing that the backward pass could not know of.

        Raises:
            ValueError: if it drew random numbers that cannot be drawn again.
        """
        states = self.forward(x0)
        self.others.check()
        if not (self.draws or self.random.is_now()):
            raise ValueError(
                "the field begins to draw random numbers after the solve's first evaluation, too "
                "late for this sensitivity to draw them again: draw from the beginning, freeze "
                "the noise, FrozenNoise(field), or take DiscreteAdjoint()."
            )
        return states

    def refuse_changes(self) -> None:
        """Raise where a tensor that the field reads has been written to since the solve."""
        for tensor, version in self.read:
            if tensor._version != version:
                raise RuntimeError(
                    f"{described(tensor, self.problem.field)} that the field reads (a buffer, a "
                    "mask, the seed of FrozenNoise) was changed between the solve and its "
                    "gradient, which evaluates the field again: change it before the solve or "
                    "after the gradient."
                )

    @abstractmethod
    def forward(self, x0: Tensor) -> Tensor:
        """Solve, without a graph, and return the states at the times."""

    @abstractmethod
    def release(self) -> tuple[Tensor, ...]:
        """Hand over the tensors that the backward pass needs, and forget them.

        Autograd keeps them, so that they go when the rest of the graph goes.
        """

    @abstractmethod
    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> Gradients:
        """Return the gradients of ``x0`` and of the parameters, given that of the states.

        Args:
            grad: Gradient of the states at the times.
            kept: What ``release`` handed over.
        """

    def pull_back(
        self, outputs: Sequence[Tensor], x: Tensor, grads: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x`` and of the parameters; ``None`` for what was not used.

        Raises:
            RuntimeError: if autograd cannot, with its reason.
        """
        try:
            with hooks_at_rest(self.parameters), histories_cut(self.parameters):
                return torch.autograd.grad(
                    outputs,
                    [x, *self.parameters],
                    grads,
                    # What lies behind a tensor that is no leaf is not ours to let go.
                    retain_graph=not all(p.is_leaf for p in self.parameters),
                    allow_unused=True,
                )
        except (SolverError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"the backward pass cannot differentiate the field ({first_line(error)}): take "
                "DiscreteAdjoint(), or write that part of the field otherwise; of torch's "
                "checkpoint, use_reentrant=False can be differentiated."
            ) from error


class _Attached(torch.autograd.Function):
    """An adjoint run as a node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, run: AdjointRun, name: str, x0: Tensor, *parameters: Tensor) -> Tensor:
        states = run.forward_once(x0)
        ctx.run, ctx.name, ctx.inputs = run, name, 1 + len(parameters)
        # Saving the inputs lets autograd notice if one has been changed in the meantime.
        ctx.save_for_backward(x0, *parameters, *run.release())
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if is_batched(grad):
            raise RuntimeError(
                f"{ctx.name} takes one gradient at a time, and this one is batched by vmap "
                "(jacrev, vectorize=True or is_grads_batched=True): take DiscreteAdjoint(), or "
                "ask for the gradients one after another."
            )
        inputs, kept = ctx.saved_tensors[: ctx.inputs], ctx.saved_tensors[ctx.inputs :]
        ctx.run.refuse_changes()
        with ctx.run.resumed(), retelling(said_of_the_backward_pass), deferred_checks():
            grad_x0, grad_parameters = ctx.run.backward(grad, kept)
        return (None, None, *once(ctx.name, (grad_x0, *grad_parameters), (*inputs, grad)))


def attach(run: AdjointRun, name: str) -> Tensor:
    """Solve, and let the run's backward pass stand for the solve's.

    Args:
        run: What solves.
        name: Of the sensitivity, for what it has to say.
    """
    x0 = run.problem.x0
    if within_transform():
        raise RuntimeError(
            f"{name} has a backward pass of its own, which torch.func's transforms (jacrev, grad, "
            "vmap, …) do not see through: take DiscreteAdjoint()."
        )
    if not torch.is_grad_enabled():
        return run.forward(x0)
    run.name = name
    run.look()
    if x0.requires_grad or run.parameters:
        run.prepare()
        return _Attached.apply(run, name, x0, *run.parameters)
    return _solve_unwatched(run)


def _solve_unwatched(run: AdjointRun) -> Tensor:
    """Solve where nothing was found to want a gradient, and see that nothing does later on."""
    with torch.no_grad(), Reach() as reach:
        states = run.forward(run.problem.x0)
    if reach.wanting:
        late = described(reach.wanting[0], run.problem.field)
        raise ValueError(
            f"the field begins to use {late} that wants a gradient "
            "after the solve's first evaluation, too late for this sensitivity: name it, "
            "ODEProblem(…, parameters=(tensor,)), make it a parameter of the field, or take "
            "DiscreteAdjoint()."
        )
    return states


class OtherRandomNumbers:
    """Sees to it that a field draws no random numbers but torch's, which can be drawn again."""

    def __init__(self) -> None:
        self.before = other_random_state()

    def check(self) -> None:
        """Raise where NumPy's or Python's random numbers have been drawn since."""
        if not same_state(self.before, other_random_state()):
            raise ValueError(
                "the field draws random numbers from NumPy or from Python's random, which are "
                "others when the backward pass evaluates it again: draw them with torch, or take "
                "DiscreteAdjoint()."
            )


def add_up(
    totals: Sequence[Tensor | None], gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Add gradients, where ``None`` is that of a tensor that was not used."""
    return [_plus(total, gradient) for total, gradient in zip(totals, gradients, strict=True)]


def _plus(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    if total is None or gradient is None:
        return total if gradient is None else gradient
    return total + gradient


def _autocast_as_now(device_type: str) -> Any:
    """Return a factory of the autocast context that is in force now, for the backward pass."""
    enabled = torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type)

    def context() -> AbstractContextManager:
        return torch.autocast(device_type, dtype=dtype, enabled=enabled)

    return context


class Adjoint(Sensitivity):
    """A sensitivity that computes the gradient by itself, apart from autograd's own record."""

    @abstractmethod
    def start(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
    ) -> AdjointRun:
        """Return what will solve once, and once differentiate that solve."""

    def integrate(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
    ) -> Tensor:
        """Return the states at ``times``, with this sensitivity as their backward pass."""
        return attach(self.start(problem, integrator, times, stats), type(self).__name__)
