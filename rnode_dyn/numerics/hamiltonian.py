"""Separable Hamiltonians, H(q, p) = T(p) + V(q), as problems to solve."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.transforms import within_transform

Energy = Callable[[Tensor], Tensor]


@runtime_checkable
class Separated(Protocol):
    """The two halves of a separable Hamiltonian's field, each a function of the other half."""

    def velocity(self, p: Tensor, /) -> Tensor:
        """Return dq/dt = ∂T/∂p."""
        ...

    def force(self, q: Tensor, /) -> Tensor:
        """Return dp/dt = −∂V/∂q."""
        ...


class HamiltonianField(nn.Module):
    """The field (∂T/∂p, −∂V/∂q) of a separable Hamiltonian, by autograd.

    Args:
        T: Kinetic energy of each sample: takes p, ``(batch, *event)``, returns ``(batch,)``.
        V: Potential energy of each sample, likewise of q.

    Raises:
        TypeError: if an energy cannot be called.
    """

    # It depends on no time.
    takes_times = True

    def __init__(self, T: Energy, V: Energy) -> None:
        super().__init__()
        for name, energy in (("T", T), ("V", V)):
            if not callable(energy):
                raise TypeError(
                    f"{name} is {energy!r}; write a module or a function of one tensor, "
                    "(batch, n), that returns the energy of each sample, (batch,)."
                )
        self.T, self.V = T, V

    @property
    def separated(self) -> Separated:
        """Its two halves."""
        return self

    def velocity(self, p: Tensor) -> Tensor:
        """Return dq/dt = ∂T/∂p."""
        return _gradient("T", self.T, p)

    def force(self, q: Tensor) -> Tensor:
        """Return dp/dt = −∂V/∂q."""
        return -_gradient("V", self.V, q)

    def forward(self, t: Tensor, x: Any) -> Any:
        """Return (dq/dt, dp/dt), joined where q and p are."""
        if not isinstance(x, Tensor):
            q, p = x
            return self.velocity(p), self.force(q)
        q, p = x.chunk(2, -1)
        return torch.cat([self.velocity(p), self.force(q)], -1)


def _gradient(name: str, energy: Energy, at: Tensor) -> Tensor:
    """The gradient of the energy of all samples, itself differentiable where that is recorded."""

    def total(at: Tensor) -> Tensor:
        return _energies(name, energy, at).sum()

    records = torch.is_grad_enabled()
    # Slower, and right where autograd's own would leave a graph that nobody wants, or cannot go.
    if (
        within_transform()
        or torch.is_inference_mode_enabled()
        or (records and not at.requires_grad)
    ):
        return torch.func.grad(total)(at)
    with torch.enable_grad():
        # An alias: what hangs on the state itself, hooks say, is not for this gradient.
        alias = at.view_as(at) if records else at.detach().requires_grad_()
        value = total(alias)
        if not value.requires_grad:
            return torch.zeros_like(at)
        (gradient,) = torch.autograd.grad(
            value, alias, create_graph=records, materialize_grads=True
        )
    return gradient


def _energies(name: str, energy: Energy, at: Tensor) -> Tensor:
    """The energy of each sample, and nothing else."""
    values = energy(at)
    if isinstance(values, Tensor) and values.shape == at.shape[:1]:
        return values
    what = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    raise ValueError(
        f"{name} returned {what} for {len(at)} samples of shape {tuple(at.shape[1:])}: it must "
        f"return the energy of each sample, of shape ({len(at)},); sum over the other axes, "
        ".flatten(1).sum(1)."
    )


@dataclass(frozen=True, eq=False, init=False)
class HamiltonianProblem(ODEProblem):
    """The motion of a separable Hamiltonian, H(q, p) = T(p) + V(q).

    dq/dt = ∂T/∂p and dp/dt = −∂V/∂q, by autograd. It is an :class:`ODEProblem` like others, for
    every algorithm; :class:`VelocityVerlet` and :class:`Yoshida4` use that the halves can be
    stepped by turns.

    Args:
        T: Kinetic energy: a module or function of p, ``(batch, n)``, that returns one number a
            sample, ``(batch,)``. It must not depend on q, nor on time.
        V: Potential energy, likewise of q.
        x0: Start: q and p joined, ``(batch, 2 n)``, or a tuple ``(q, p)`` of two real tensors of
            one shape ``(batch, *event)``; solutions have the same form.
        t_span: As of an :class:`ODEProblem`.
        parameters: Likewise.
        error_mask: Likewise.

    Raises:
        TypeError: if an energy cannot be called, or the start is of other things than real tensors.
        ValueError: if the start does not have two halves.

    Example:
        >>> from rnode_dyn import FixedStep, Solver, VelocityVerlet, solve
        >>> half_square = lambda z: z.square().sum(1) / 2
        >>> start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        >>> spring = HamiltonianProblem(half_square, half_square, start, (0.0, 100.0))
        >>> end = solve(spring, Solver(VelocityVerlet(), FixedStep(0.1))).x[-1]
        >>> bool((spring.energy(end) - spring.energy(start)).abs() < 1e-3)
        True
    """

    T: Energy
    V: Energy
    field: Callable[..., Any] = dataclasses.field(init=False, repr=False)

    def __init__(
        self,
        T: Energy,
        V: Energy,
        x0: Any,
        t_span: tuple[Any, Any],
        parameters: tuple[Tensor, ...] | None = None,
        error_mask: Any = None,
    ) -> None:
        _check_start(x0)
        object.__setattr__(self, "T", T)
        object.__setattr__(self, "V", V)
        super().__init__(HamiltonianField(T, V), x0, t_span, parameters, error_mask)

    def energy(self, x: Any) -> Tensor:
        """Return T(p) + V(q) of states like ``x0``, or of many with further axes before the batch.

        Args:
            x: States, ``solution.x`` say.

        Returns:
            ``(batch,)`` of a state like ``x0``, ``(len(t), batch)`` of ``solution.x``.
        """
        q, p = _halves(x)
        event = _halves(self.x0)[0].shape[1:]
        leading = q.shape[: q.dim() - len(event)]
        parts = [
            _energies(name, energy, half.reshape(-1, *event)).reshape(leading)
            for name, energy, half in (("T", self.T, p), ("V", self.V, q))
        ]
        return parts[0] + parts[1]


def _halves(x: Any) -> tuple[Tensor, Tensor]:
    q, p = x.chunk(2, -1) if isinstance(x, Tensor) else x
    return q, p


def _check_start(x0: Any) -> None:
    """Refuse what does not have two halves; all else is for the problem to say."""
    if isinstance(x0, Tensor):
        if x0.dim() < 2 or x0.shape[-1] % 2:
            raise ValueError(
                f"x0 has shape {tuple(x0.shape)}: q and p, joined, make a last axis of even "
                "length, (batch, 2 n); or write the tuple (q, p)."
            )
    elif type(x0) is not tuple or len(x0) != 2 or not all(isinstance(z, Tensor) for z in x0):
        raise TypeError(
            f"x0 is a {type(x0).__name__} that is no pair of tensors: write q and p joined, "
            "(batch, 2 n), or the tuple (q, p)."
        )
    q, p = _halves(x0)
    if q.shape != p.shape:
        raise ValueError(
            f"q has shape {tuple(q.shape)} and p {tuple(p.shape)}: each coordinate has its "
            "momentum, so write two tensors of one shape."
        )
    if q.is_complex() or p.is_complex():
        raise TypeError(
            "x0 is complex, and the coordinates and momenta of a Hamiltonian are real: write "
            "torch.view_as_real(x0), and energies of real and imaginary parts."
        )
