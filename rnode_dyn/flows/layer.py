"""A regularized neural ODE as a layer: a tensor in, a tensor out."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchdyn.nn import Augmenter

from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.own_product import with_own_product
from rnode_dyn.flows.augmented import AugmentedField
from rnode_dyn.flows.divergence import Divergence, HutchinsonDivergence
from rnode_dyn.flows.end_time import EndTime, Uniform, as_float, checked_end, next_end
from rnode_dyn.flows.given import check_batch
from rnode_dyn.flows.parts import check_part
from rnode_dyn.flows.penalised_solve import PenalisedSolve
from rnode_dyn.flows.penalties import Call, Penalised
from rnode_dyn.flows.regularizers import Regularizer, check_regularizers
from rnode_dyn.flows.share import drawn
from rnode_dyn.flows.solve_penalties import check_solve_penalties
from rnode_dyn.flows.value_alone import NoDivergence
from rnode_dyn.numerics.numbers import as_number, wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.save_times import as_list, save_times
from rnode_dyn.numerics.solve import Solver, solve
from rnode_dyn.numerics.stats import SolveStats


class PenalisedField(AugmentedField):
    """d/dt of (penalties…, state), a row a sample."""

    has_log_det: ClassVar[bool] = False


class RegularizedODE(Penalised):
    """A neural ODE whose trajectories are penalised, as a layer of a larger network.

    It maps x(0) to x(T), where dx/dt = f(t, x). The weighted penalties of the last forward pass of
    all such layers in a network are ``penalty(network)``, to be added to the loss. What no
    regularizer asks for is not computed: the kinetic energy alone takes no vector-Jacobian product.

    Args:
        field: f(t, x): a module or a function; the module's parameters are trained.
        solver: How to solve, and how to differentiate the solve.
        regularizers: Penalties to integrate along the trajectory.
        end_time: T. A tensor that wants a gradient gets one; ``Uniform(0.75, 1.25)`` draws one for
            every forward pass in training.
        divergence: How to get ‖∂f/∂x‖_F, where a regularizer asks for it.
        augment: How many channels of zeros to append to the first axis of a sample, which the
            field carries along and the result keeps (Dupont et al. 2019).
        return_trajectory: Whether to return the states at ``save_at``, rather than the last alone.
        save_at: Times between 0 and T, in order; left out, 0 and T.

    Attributes:
        stats: What the last solve cost.

    Raises:
        TypeError: if a part is not of its kind.
        ValueError: if ``end_time`` is not positive, a regularizer comes twice or does not go with
            the solver, ``augment`` is no whole number, or ``save_at`` does not fit.

    Example:
        >>> from rnode_dyn import JacobianFrobenius, KineticEnergy, MLPField
        >>> penalties = [KineticEnergy(0.1), JacobianFrobenius(0.1)]
        >>> layer = RegularizedODE(MLPField(5), regularizers=penalties, augment=2)
        >>> network = nn.Sequential(layer, nn.Linear(5, 10))
        >>> network(torch.zeros(4, 3)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        field: Callable,
        solver: Solver | None = None,
        regularizers: Sequence[Regularizer] = (),
        end_time: EndTime = 1.0,
        *,
        divergence: Divergence | None = None,
        augment: int = 0,
        return_trajectory: bool = False,
        save_at: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        check_part("solver", solver, Solver, "Solver()")
        check_part("divergence", divergence, Divergence, "HutchinsonDivergence()")
        check_regularizers(regularizers)
        self.field = as_field(field)
        self.solver = Solver() if solver is None else solver
        # Of those without weight nothing would be seen.
        self.regularizers = tuple(r for r in regularizers if r.weight > 0)
        self.end = checked_end(end_time)
        check_solve_penalties(self.regularizers, [self.solver], self.end)
        given = HutchinsonDivergence() if divergence is None else divergence
        self.divergence = given if self._needs_products else NoDivergence()
        self.augment = _checked_augment(augment)
        self.augmenter = Augmenter(augment_dims=self.augment, order="last")
        check_part("return_trajectory", return_trajectory, bool, "True, and the times as save_at")
        self.return_trajectory = return_trajectory
        self.save_at = _checked_times(save_at, return_trajectory, self.end)
        self.stats = SolveStats()
        # A hypersolver's networks train, move and are saved with the layer.
        is_module = bool(self.solver.algorithm_parameters)
        self.hypersolver = cast(nn.Module, self.solver.algorithm) if is_module else None

    @property
    def _needs_products(self) -> bool:
        return any(regularizer.needs_products for regularizer in self.regularizers)

    def forward(self, x: Tensor) -> Tensor:
        """Solve from ``x``, and keep the penalties for :func:`penalty`.

        Args:
            x: Start, ``(batch, *event)``.

        Returns:
            The state at T, ``(batch, *event)`` with the channels that were appended; of a
            trajectory ``(len(save_at), batch, *event)``.
        """
        check_batch(x, self.field.parameters())
        start = self.augmenter(x) if self.augment else x
        end = next_end(self.end, x, self.training)
        dynamics = self._dynamics(start)
        before = [t for t in self._saved if t != as_float(end)]
        rows = self._solve(dynamics, start, end, [*before, end])
        channels = dynamics.channels
        states = rows[:, :, channels:].unflatten(2, start.shape[1:])
        result = self._wanted(states, ends_there=len(before) < len(self._saved))
        self.calls.add(Call(self, result, self._weigh(rows[-1, :, :channels])))
        return result

    @property
    def _saved(self) -> tuple[float, ...]:
        """The times to save the state at, besides T where none were given."""
        return ((0.0,) if self.return_trajectory else ()) if self.save_at is None else self.save_at

    def _wanted(self, states: Tensor, ends_there: bool) -> Tensor:
        """What is returned, of the states at the saved times and at T."""
        if not self.return_trajectory:
            return states[-1]
        return states if ends_there or self.save_at is None else states[:-1]

    def _dynamics(self, start: Tensor) -> AugmentedField:
        noise = drawn(self.divergence.draw, start)
        field, shape = with_own_product(self.field, start), start.shape[1:]
        return PenalisedField(field, shape, self.divergence, noise, self.regularizers, direction=1)

    def _solve(
        self, dynamics: AugmentedField, start: Tensor, end: float | Tensor, times: list[Any]
    ) -> Tensor:
        flat = start.flatten(1)
        y = torch.cat([flat.new_zeros(len(flat), dynamics.channels), flat], dim=1)
        parameters = tuple(self.field.parameters())
        mask = dynamics.error_mask(y)
        problem = ODEProblem(dynamics, y, (0.0, end), parameters, error_mask=mask)
        asked = PenalisedSolve(dynamics, problem, self.solver, times)
        solution = solve(problem, asked.solver, save_at=asked.save_at)
        self.stats = solution.stats
        return asked.rows(solution)

    def _weigh(self, penalties: Tensor) -> Tensor:
        """Return Σ weight · penalty, ``(batch,)``."""
        total = penalties.new_zeros(len(penalties))
        for regularizer, integral in zip(self.regularizers, penalties.unbind(1), strict=True):
            total = total + regularizer.weight * integral
        return total

    def extra_repr(self) -> str:
        """Name the parts that are not modules."""
        return f"solver={self.solver}, regularizers={list(self.regularizers)}, end_time={self.end}"


def _checked_augment(augment: object) -> int:
    number = as_number(augment)
    if number is None or number < 0 or number != number // 1:
        raise ValueError(
            f"augment is {augment!r}; write how many channels of zeros to append, such as 2."
        )
    return int(number)


def _checked_times(save_at: Any, return_trajectory: bool, end: EndTime) -> tuple[float, ...] | None:
    if save_at is None:
        return None
    if not return_trajectory:
        raise ValueError("save_at says when to return the state: write return_trajectory=True too.")
    given = as_list(save_at)
    if any(map(wants_gradient, given)):
        raise ValueError(
            "save_at wants a gradient, and a layer keeps its times as numbers: write "
            "save_at.detach(), or end_time=t for a time that trains."
        )
    earliest = end.low if isinstance(end, Uniform) else as_float(end)
    return tuple(save_times((0.0, earliest), given))
