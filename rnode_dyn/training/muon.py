"""Muon: steps of equal size in all directions of a matrix, and Adam's for all other weights."""

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from rnode_dyn.numerics.numbers import as_number

_SMALLEST = 8
"""Rows and columns from which on a weight is treated as a matrix."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of a step of the iteration: steep at 0, so that small directions grow fast (Jordan et al.)."""

_ITERATIONS = 5


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) for matrices and convolutions, and AdamW for the rest.

    A matrix's momentum is replaced by the nearest one whose singular values are all about 1, so
    that it learns rare directions as fast as frequent ones. Its length is set to that of Adam's
    steps (Liu et al., Muon is scalable for LLM training, 2025): one learning rate suits both.
    A convolution counts as the matrix of its output channels by all else. Weights with fewer than
    eight rows or columns, such as the first and last layer of a field on grey pictures, biases and
    scales are AdamW's. A matrix whose gradient is zero throughout stays where it is.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, as Adam's.
        momentum: Decay of the mean gradient of matrices, which is Nesterov's.
        betas: AdamW's decays, for all else.
        eps: AdamW's.
        weight_decay: Decoupled weight decay, of both.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> layer = torch.nn.Linear(16, 16)
        >>> optimizer = Muon(layer.parameters(), lr=0.01)
        >>> before = layer.weight.detach().clone()
        >>> layer(torch.randn(4, 16)).square().mean().backward()
        >>> optimizer.step()
        >>> (layer.weight - before).detach().square().mean().sqrt() < 0.01  # 0.2·lr and less
        tensor(True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Step these parameters too, with numbers of their own where the group has some.

        Raises:
            ValueError: if a number is out of its range.
        """
        if isinstance(param_group, dict):  # else torch says what is wrong
            _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the state of another Muon.

        Raises:
            ValueError: if another optimizer has saved it, or weights of other shapes.
        """
        ours = [weight for group in self.param_groups for weight in group["params"]]
        groups = state_dict["param_groups"]
        for group in groups:
            if not group.keys() >= self.defaults.keys():
                lacks = ", ".join(sorted(self.defaults.keys() - group.keys()))
                raise ValueError(f"Muon: the state lacks {lacks}, so it is another optimizer's.")
            _check(group)
        saved = [number for group in groups for number in group["params"]]
        for weight, number in zip(ours, saved, strict=False):
            _check_state(weight, state_dict["state"].get(number, {}))
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Move the weights.

        Args:
            closure: Computes the loss and its gradient.

        Returns:
            The closure's loss, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for alike in _by_shape(p for p in moving if is_matrix(p)):
                self._step_matrices(alike, group)
            self._step_others([p for p in moving if not is_matrix(p)], group)
        return loss

    def _step_matrices(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """All matrices of a shape at once: a product of many small ones costs less than many."""
        keeps, means = group["momentum"], []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state.update(_start(weight))
            state["momentum"].lerp_(_gradient(weight), 1 - keeps)
            means.append(torch.lerp(_gradient(weight), state["momentum"], keeps))
        learns = torch.stack([_gradient(weight).any() for weight in weights])
        steps = orthogonalized(torch.stack(means).flatten(2)) * learns[:, None, None]
        length = 0.2 * math.sqrt(max(steps.shape[1:])) * group["lr"]
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(step.view_as(weight), alpha=length)

    def _step_others(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = _start(weight)
        states = [self.state[weight] for weight in weights]
        adamw(
            weights,
            [_gradient(weight) for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _check(given: dict[str, Any]) -> None:
    betas = given["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ValueError(f"Muon: betas is {betas!r}; write two numbers, such as (0.9, 0.999).")
    decays = {"momentum": given["momentum"], "betas[0]": betas[0], "betas[1]": betas[1]}
    for name, rate in decays.items():
        if not _is_within(rate, 1.0):
            raise ValueError(f"Muon: {name} is {rate!r}; write a number from 0 to below 1.")
    for name in ("lr", "eps", "weight_decay"):
        if not _is_within(given[name], math.inf):
            raise ValueError(f"Muon: {name} is {given[name]!r}; write a finite one of at least 0.")


def _is_within(value: Any, end: float) -> bool:
    number = as_number(value) if isinstance(value, Real) else None
    return number is not None and 0 <= number < end


def _check_state(weight: Tensor, kept: dict[str, Any]) -> None:
    """Refuse what no Muon remembers of such a weight."""
    wanted, shape = _start(weight), tuple(weight.shape)
    if kept and kept.keys() != wanted.keys():
        raise ValueError(
            f"Muon: the state of a weight of shape {shape} has {', '.join(sorted(kept))}, where it "
            f"wants {', '.join(sorted(wanted))}: it is another optimizer's, or of another weight."
        )
    for name, tensor in kept.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"Muon: {name} of a weight of shape {shape} has shape {tuple(tensor.shape)}, so it "
                "is of another weight."
            )


def _start(weight: Tensor) -> dict[str, Tensor]:
    """What a weight's steps remember, before the first."""
    if is_matrix(weight):
        return {"momentum": torch.zeros_like(weight)}
    means = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
    return {"step": torch.tensor(0.0), **means}


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None  # only such weights move
    if weight.grad.is_sparse:
        raise ValueError(
            f"Muon: a weight of shape {tuple(weight.shape)} has a sparse gradient; build its layer "
            "with sparse=False, or step it with torch.optim.SparseAdam."
        )
    return weight.grad


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight is stepped as a matrix: real, with eight rows and columns or more.

    Example:
        >>> is_matrix(torch.zeros(16, 8, 3, 3)), is_matrix(torch.zeros(1, 16, 3, 3))
        (True, False)
    """
    if weight.ndim < 2 or not weight.is_floating_point() or not weight.numel():
        return False
    return min(weight.shape[0], weight.shape[1]) >= _SMALLEST


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices of the same singular vectors, and singular values near 1.

    Five steps of a Newton-Schulz iteration of degree 5; values end between 0.68 and 1.2, but for
    those that are less than about 1/600 of the matrix's norm.

    Args:
        matrices: ``(…, rows, columns)``.

    Example:
        >>> values = torch.linalg.svdvals(orthogonalized(torch.randn(8, 32)))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    for order in (torch.inf, 2):  # first to a size whose squares are numbers
        norm = torch.linalg.vector_norm(x, order, dim=(-2, -1), keepdim=True)
        x = x / norm.clamp(min=torch.finfo(x.dtype).tiny)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


def _by_shape(weights: Iterable[Tensor]) -> list[list[Tensor]]:
    alike: dict[tuple[Any, ...], list[Tensor]] = {}
    for weight in weights:
        alike.setdefault((weight.shape, weight.dtype, weight.device), []).append(weight)
    return list(alike.values())
