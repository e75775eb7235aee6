"""Newton's iteration for one stage of an implicit method, and the gradient of what it finds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.implicit import Shifted

# The residual of a stage's equation at a state, scaled as the matrix is: (r − z) / (γ dt) + f(z).
Residual = Callable[[Tensor], Tensor]

# So many iterations with one matrix; where they do not suffice, the next are with one made anew.
_PATIENCE = 3


def iterate(
    residual: Residual,
    matrix: Shifted,
    anew: Callable[[Tensor], Shifted],
    guess: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Find the root of a residual by the simplified Newton iteration, each sample's for itself.

    Args:
        residual: Of the stage's equation.
        matrix: Minus the residual's derivative, near enough.
        anew: Returns it at another state; a slow iteration asks for it.
        guess: Where to begin.
        most: Iterations after which it has failed.

    Returns:
        The root, and which samples have none, ``(batch,)``.
    """
    z, before = guess, torch.full((len(guess),), torch.inf, dtype=guess.dtype, device=guess.device)
    settled = torch.zeros(len(guess), dtype=torch.bool, device=guess.device)
    for i in range(most):
        if i and i % _PATIENCE == 0:
            matrix = anew(z)
        change = matrix.solve(residual(z))
        z = z + change
        size = _relative(change, z)
        # Rounding ends the iteration too: changes that are small and shrink no more.
        settled = (size <= _tight(z)) | ((size <= _loose(z)) & (size > 0.5 * before))
        before = size
        if bool((settled | ~torch.isfinite(size)).all()):
            break
    return z, ~settled


def _relative(change: Tensor, z: Tensor) -> Tensor:
    """Each sample's largest change, relative to the entry's own size, (batch,)."""
    change, size = change.flatten(1).abs(), z.flatten(1).abs()
    # An entry that is nearly nothing beside the others is measured by them.
    floor = 1e-6 * size.amax(1, keepdim=True) + torch.finfo(z.dtype).tiny
    return (change / (size + floor)).amax(1)


def _tight(z: Tensor) -> float:
    return 10 * torch.finfo(z.dtype).eps ** 0.75


def _loose(z: Tensor) -> float:
    return torch.finfo(z.dtype).eps ** 0.5


class _Root(torch.autograd.Function):
    """The root of a residual, by the implicit function theorem."""

    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, root: Tensor, factors: Tensor, pivots: Tensor
    ) -> Tensor:
        ctx.save_for_backward(factors, pivots)
        return root.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (grad,), (factors, pivots) = grads, ctx.saved_tensors
        flat = grad.reshape(len(grad), -1, 1)
        back = torch.linalg.lu_solve(factors, pivots, flat, adjoint=True)
        return back.reshape(grad.shape), None, None, None


def differentiable(residual: Tensor, root: Tensor, matrix: Shifted) -> Tensor:
    """Return a root through which its gradient goes on to all that the residual depends on.

    Where residual(z, θ) = 0, dz = −(∂residual/∂z)⁻¹ (∂residual/∂θ) dθ.

    Args:
        residual: At the root, with a graph to everything but the root.
        root: Where the residual vanishes.
        matrix: Minus the residual's derivative there, exactly.
    """
    return _Root.apply(residual, root, matrix.factors, matrix.pivots)
