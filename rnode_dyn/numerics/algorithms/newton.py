"""Newton's iteration for one stage of an implicit method, and the gradient of what it finds."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.implicit import Shifted
from rnode_dyn.numerics.once import once

# The residual of a stage's equation at a state, scaled as the matrix is: (r − z) / (γ dt) + f(z).
Residual = Callable[[Tensor], Tensor]

# So many iterations with one matrix; where they do not suffice, the next are with one made anew.
_PATIENCE = 3
# The error that iterating leaves in a stage, as a share of the tolerance of a step.
_SHARE = 0.2


_NAME = "Newton's iteration"
_INSTEAD = "take Rodas5P() or Rosenbrock23(), which can be differentiated twice"


class Until(ABC):
    """When the iteration of a stage ends, and when its matrix does not serve it any more."""

    is_slow = False

    def __init__(self) -> None:
        self.before: Tensor | None = None
        self.turns = 0

    def begin(self) -> None:
        """Forget the changes that another matrix, or another stage, has made."""
        self.before, self.turns = None, 0

    @abstractmethod
    def settled(self, change: Tensor, z: Tensor, left: int) -> Tensor:
        """Return which samples need no further iteration, ``(batch,)``.

        Args:
            change: The last one.
            z: The states that it has led to.
            left: How many iterations there may yet be.
        """

    def _is_rounding(self, change: Tensor, z: Tensor) -> Tensor:
        """Whether changes are rounding, small and shrinking no more."""
        size = _relative(change, z)
        before, self.before = self.before, size
        stalls = torch.zeros_like(size, dtype=torch.bool) if before is None else size > 0.5 * before
        eps = torch.finfo(z.dtype).eps
        return (size <= 10 * eps**0.75) | ((size <= eps**0.5) & stalls)


class UntilRounding(Until):
    """Goes on until the changes are rounding."""

    def settled(self, change: Tensor, z: Tensor, left: int) -> Tensor:
        """Return which samples' changes are rounding."""
        self.turns += 1
        self.is_slow = self.turns % _PATIENCE == 0
        return self._is_rounding(change, z)


class UntilTolerated(Until):
    """Goes on until what is left to iterate is a share of the tolerance (Hairer & Wanner, Solving
    ODEs II, IV.8).

    How fast the changes shrink is what they have shown, in this stage or in one before it.

    Args:
        scale: What the step tolerates of each entry.
    """  # noqa: D205  # the citation belongs to the first sentence

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = scale
        self.rate: Tensor | None = None
        self.last: Tensor | None = None

    def begin(self) -> None:
        """Forget the changes, and keep how fast they shrank."""
        super().begin()
        self.last = None

    def settled(self, change: Tensor, z: Tensor, left: int) -> Tensor:
        """Return which samples have come near enough."""
        self.turns += 1
        size = (change / self.scale).flatten(1).square().mean(1).sqrt()
        settled = self._is_rounding(change, z) | (size <= 0.01 * _SHARE)
        last, self.last, self.is_slow = self.last, size, False
        if last is not None:
            rate = torch.where(last > 0, size / last, 0.0)
            settled = settled | _is_left(rate, size)
            ahead = rate ** max(left, 0) * size > _SHARE * (1 - rate)
            slow = ~settled & ((rate >= 1) | (ahead if self.turns >= _PATIENCE else False))
            self.is_slow = bool(slow.any())
            self.rate = rate.clamp(min=1e-10)
        elif self.rate is not None:
            settled = settled | _is_left(self.rate**0.8, size)
        return settled


def _is_left(rate: Tensor, size: Tensor) -> Tensor:
    """Whether changes that shrink so will add up to no more than their share."""
    return (rate < 1) & (rate * size <= _SHARE * (1 - rate))


def iterate(
    residual: Residual,
    matrix: Shifted,
    anew: Callable[[Tensor], Shifted],
    guess: Tensor,
    most: int,
    until: Until,
) -> tuple[Tensor, Tensor]:
    """Find the root of a residual by the simplified Newton iteration, each sample's for itself.

    Args:
        residual: Of the stage's equation.
        matrix: Minus the residual's derivative, near enough.
        anew: Returns it at another state; a slow iteration asks for it.
        guess: Where to begin.
        most: Iterations after which it has failed.
        until: When the iteration ends.

    Returns:
        The root, and which samples have none, ``(batch,)``.
    """
    z = guess
    settled = torch.zeros(len(guess), dtype=torch.bool, device=guess.device)
    until.begin()
    for i in range(most):
        change = matrix.solve(residual(z))
        # A sample that has settled stays, whatever it is batched with.
        change = torch.where(settled.reshape(-1, *[1] * (z.dim() - 1)), 0.0, change)
        z = z + change
        settled = settled | until.settled(change, z, most - 1 - i)
        if bool((settled | ~torch.isfinite(z).flatten(1).all(1)).all()):
            break
        if until.is_slow and i + 1 < most:
            matrix = anew(z)
            until.begin()
    return z, ~settled


def _relative(change: Tensor, z: Tensor) -> Tensor:
    """Each sample's largest change, relative to the entry's own size, (batch,)."""
    change, size = change.flatten(1).abs(), z.flatten(1).abs()
    # An entry that is nearly nothing beside the others is measured by them.
    floor = 1e-6 * size.amax(1, keepdim=True) + torch.finfo(z.dtype).tiny
    return (change / (size + floor)).amax(1)


class _Root(torch.autograd.Function):
    """The root of a residual, by the implicit function theorem."""

    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, root: Tensor, factors: Tensor, pivots: Tensor
    ) -> Tensor:
        ctx.save_for_backward(residual, factors, pivots)
        return root.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (grad,), (residual, factors, pivots) = grads, ctx.saved_tensors
        flat = grad.detach().reshape(len(grad), -1, 1)
        back = torch.linalg.lu_solve(factors, pivots, flat, adjoint=True)
        back = once(_NAME, [back.reshape(grad.shape)], (residual, grad), _INSTEAD)[0]
        return back, None, None, None


def differentiable(residual: Tensor, root: Tensor, matrix: Shifted) -> Tensor:
    """Return a root through which its gradient goes on to all that the residual depends on.

    Where residual(z, θ) = 0, dz = −(∂residual/∂z)⁻¹ (∂residual/∂θ) dθ.

    Args:
        residual: At the root, with a graph to everything but the root.
        root: Where the residual vanishes.
        matrix: Minus the residual's derivative there, exactly.
    """
    return _Root.apply(residual, root, matrix.factors, matrix.pivots)
