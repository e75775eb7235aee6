"""The regularized neural ODE: a torchdyn NeuralODE that knows its density."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchdyn.core import DEFunc, NeuralODE
from torchdyn.nn import Augmenter

from rnode_dyn._notebook import shown_by
from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.conditioned import Conditioned, conditioned, takes_condition
from rnode_dyn.fields.own_product import with_own_product
from rnode_dyn.flows.at_nodes import Plan, carry_at_nodes
from rnode_dyn.flows.augmented import AugmentedField
from rnode_dyn.flows.divergence import Divergence, HutchinsonDivergence
from rnode_dyn.flows.end_time import EndTime, as_float, checked_end, fixed_end, next_end
from rnode_dyn.flows.given import check_batch
from rnode_dyn.flows.parts import check_part
from rnode_dyn.flows.penalised_solve import PenalisedSolve
from rnode_dyn.flows.quadrature import Quadrature, check_quadratures
from rnode_dyn.flows.regularizers import Regularizer, check_regularizers
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.share import drawn
from rnode_dyn.flows.solve_penalties import check_solve_penalties
from rnode_dyn.numerics.numbers import as_number
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.solve import Solver, solve
from rnode_dyn.numerics.stats import SolveStats


class RegularizedFlow(NeuralODE):
    """A continuous normalizing flow whose trajectories are penalised (Finlay et al. 2020).

    The state of the ODE is the sample, its log-determinant and one entry for every regularizer,
    all solved for together, or the sample alone where a quadrature has nodes of its own. In
    training mode ``solver`` and ``divergence`` do it; in evaluation mode ``eval_solver`` and
    ``eval_divergence``, where they are given.

    Args:
        field: f(t, x), or f(t, x, condition): a module or a function; the module's parameters are
            trained.
        solver: How to solve, and how to differentiate the solve.
        divergence: How to get tr ∂f/∂x.
        regularizers: Penalties to integrate along the trajectory.
        end_time: T: data are at time 0, the latent variable at T. A tensor that wants a gradient
            gets one; an ``nn.Parameter`` trains with the flow. ``Uniform(0.75, 1.25)`` draws one
            for every forward pass in training.
        eval_solver: Solver in evaluation mode.
        eval_divergence: Divergence in evaluation mode.
        quadrature: Where the log-determinant is integrated, and the penalties with it.
        penalty_quadrature: Where the penalties are, if elsewhere.
        eval_quadrature: Where both are in evaluation mode; left out, at the stages.

    Raises:
        TypeError: if a part is not of its kind.
        ValueError: if ``end_time`` is not positive, a regularizer comes twice, or a quadrature
            or a solver does not go with the rest.

    Example:
        >>> import torch
        >>> from rnode_dyn import KineticEnergy, MLPField
        >>> flow = RegularizedFlow(MLPField(2), regularizers=[KineticEnergy(0.01)])
        >>> z, log_det, penalties = flow(torch.zeros(3, 2))
        >>> z.shape, log_det.shape, list(penalties)
        (torch.Size([3, 2]), torch.Size([3]), ['kinetic_energy'])
    """

    def __init__(
        self,
        field: Callable,
        solver: Solver | None = None,
        divergence: Divergence | None = None,
        regularizers: Sequence[Regularizer] = (),
        end_time: EndTime = 1.0,
        eval_solver: Solver | None = None,
        eval_divergence: Divergence | None = None,
        quadrature: Quadrature | None = None,
        penalty_quadrature: Quadrature | None = None,
        eval_quadrature: Quadrature | None = None,
    ) -> None:
        solver = Solver() if solver is None else solver
        divergence = HutchinsonDivergence() if divergence is None else divergence
        for name, given in (("solver", solver), ("eval_solver", eval_solver)):
            check_part(name, given, Solver, "Solver()")
        for name, given in (("divergence", divergence), ("eval_divergence", eval_divergence)):
            check_part(name, given, Divergence, "HutchinsonDivergence()")
        check_regularizers(regularizers)
        # torchdyn prints where a field has no parameters, and gives it one.
        with redirect_stdout(StringIO()):
            super().__init__(as_field(field), solver="rk4", return_t_eval=False)
        self._take_over_from_torchdyn()
        self.solver, self.eval_solver = solver, eval_solver
        self.divergence, self.eval_divergence = divergence, eval_divergence
        self.regularizers = tuple(regularizers)
        self.end = checked_end(end_time)
        quadratures = (quadrature, penalty_quadrature, eval_quadrature)
        check_quadratures(*quadratures, bool(regularizers), isinstance(self.end, Tensor))
        check_solve_penalties(regularizers, (solver, eval_solver), self.end, quadratures)
        self.quadrature = Quadrature() if quadrature is None else quadrature
        self.penalty_quadrature = penalty_quadrature
        self.eval_quadrature = Quadrature() if eval_quadrature is None else eval_quadrature
        self.augmenter = Augmenter(augment_idx=1, augment_dims=1 + len(self.regularizers))
        self.stats = SolveStats()
        # A hypersolver's networks train, move and are saved with the flow.
        self.hypersolvers = nn.ModuleList(
            cast(nn.Module, given.algorithm)
            for given in (solver, eval_solver)
            if given is not None and given.algorithm_parameters
        )

    def _take_over_from_torchdyn(self) -> None:
        """Drop what torchdyn keeps for its own solve, which a Solver says here."""
        # A non-leaf tensor: with it neither deepcopy nor pickle would work.
        self.vf_params = None
        for name in ("solver", "solver_adjoint"):
            del self._modules[name]
        self.defunc._parameters.pop("dummy_parameter", None)

    @property
    def defunc(self) -> DEFunc:
        """Torchdyn's wrapper of the field."""
        return cast(DEFunc, self.vf)

    @property
    def field(self) -> nn.Module:
        """The field f(t, x)."""
        return cast(nn.Module, self.defunc.vf)

    @property
    def end_time(self) -> float:
        """T as a number, the mean where it is drawn; ``end`` is what was given."""
        return as_float(self.end)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> FlowResult:  # type: ignore[override]
        """Carry data to the latent variable.

        Args:
            x: Data, ``(batch, *event)``.
            condition: What the density is conditional on, a row a sample, where the field takes
                f(t, x, condition). It stays the same for the solve, and gradients reach it.

        Returns:
            The latent variable, log |det ∂z/∂x|, and the penalties.
        """
        return self._carry(x, 0.0, next_end(self.end, x, self.training), condition)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> FlowResult:
        """Carry the latent variable back to data; ``log_det`` is that of this direction."""
        return self._carry(z, fixed_end(self.end), 0.0, condition)

    def between(
        self,
        x: Tensor,
        t0: float | Tensor,
        t1: float | Tensor,
        condition: Tensor | None = None,
    ) -> FlowResult:
        """Carry states at one time to another, in either direction.

        Args:
            x: States at ``t0``, ``(batch, *event)``.
            t0: Where they are. Data are at time 0, the latent variable at ``end_time``.
            t1: Where they go; beyond ``end_time`` the field goes on as it is.
            condition: Of a field that takes one, a row a sample.

        Returns:
            The states at ``t1``, log |det| of the map, and the penalties on the way.

        Raises:
            ValueError: if a time is no finite number, or both are the same.

        Example:
            >>> from rnode_dyn import ExactDivergence
            >>> flow = RegularizedFlow(lambda t, x: -x, divergence=ExactDivergence())
            >>> half = flow.between(torch.ones(1, 2), 0.0, 0.5)
            >>> there = half.then(flow.between(half.z, 0.5, 1.0))
            >>> torch.allclose(there.log_det, torch.tensor(-2.0), atol=1e-4)
            True
        """
        given = as_number(t0), as_number(t1)
        if None in given:
            raise ValueError(f"t0 is {t0!r} and t1 is {t1!r}; write two numbers, such as 0.0, 0.5.")
        return self._carry(x, t0, t1, condition)

    def generate(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Carry the latent variable back to data, without the density, which costs less."""
        return self.trajectory(z, (fixed_end(self.end), 0.0), condition)[-1]

    _repr_html_ = shown_by("flow_html")

    def trajectory(
        self,
        x: Tensor,
        t_span: Sequence[float | Tensor] | Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Solve for the states alone, from ``x`` at the first of the times.

        Args:
            x: Start, ``(batch, *event)``.
            t_span: Times in either direction, two or more.
            condition: As in :meth:`forward`.

        Returns:
            The states at those times, ``(len(t_span), batch, *event)``.
        """
        check_batch(x, self.field.parameters())
        times = list(t_span)
        if len(times) < 2:
            raise ValueError(f"t_span is {t_span!r}; write two times or more, such as (1.0, 0.0).")
        field = conditioned(self.field, condition, x)
        problem = ODEProblem(field, x, (times[0], times[-1]), self._differentiable(field))
        solution = solve(problem, self.active_solver, save_at=times)
        self.stats = solution.stats
        return solution.x

    def odeint(
        self,
        x: Tensor,
        t_span: Tensor,
        save_at: Any = (),
        args: Any = None,  # torchdyn's
    ) -> tuple:
        """Solve for the states alone, the way torchdyn's problems are asked to."""
        times = t_span if len(save_at) == 0 else save_at
        return times, self.trajectory(x, times)

    @property
    def active_solver(self) -> Solver:
        """The solver of the current mode."""
        return self.solver if self.training or self.eval_solver is None else self.eval_solver

    @property
    def active_divergence(self) -> Divergence:
        """The divergence of the current mode."""
        if self.training or self.eval_divergence is None:
            return self.divergence
        return self.eval_divergence

    @property
    def active_quadratures(self) -> tuple[Quadrature, Quadrature | None]:
        """The quadrature of the current mode, and that of the penalties where it is another."""
        if self.training:
            return self.quadrature, self.penalty_quadrature
        return self.eval_quadrature, None

    @property
    def estimated_by(self) -> Divergence | Quadrature | None:
        """What makes the log-determinant of the current mode noisy; ``None``: nothing does."""
        if self.active_divergence.draw(torch.zeros(1, 1)) is not None:
            return self.active_divergence
        quadrature = self.active_quadratures[0]
        return quadrature if quadrature.is_random else None

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a latent sample, given that of a data sample: the same."""
        return tuple(shape)

    def weigh(self, penalties: dict[str, Tensor]) -> Tensor:
        """Return Σ weight · penalty, ``(batch,)``: zeros where nothing is weighted."""
        total = torch.zeros_like(next(iter(penalties.values()), torch.zeros(())))
        for regularizer in self.regularizers:
            if regularizer.weight > 0:
                total = total + regularizer.weight * penalties[regularizer.name]
        return total

    def drop_penalties(self) -> None:
        """Solve without penalties from now on."""
        self.regularizers, self.penalty_quadrature = (), None
        self.augmenter = Augmenter(augment_idx=1, augment_dims=1)

    @property
    def takes_condition(self) -> bool:
        """Whether the field takes a condition."""
        return takes_condition(self.field)

    def _differentiable(self, field: nn.Module | Conditioned) -> tuple[Tensor, ...]:
        """What a gradient has to reach: the field's parameters, and its condition."""
        more = field.rows if isinstance(field, Conditioned) else ()
        return (*self.field.parameters(), *(t for t in more if t.is_floating_point()))

    def _carry(
        self, x: Tensor, t0: float | Tensor, t1: float | Tensor, condition: Tensor | None
    ) -> FlowResult:
        check_batch(x, self.field.parameters())
        field = conditioned(self.field, condition, x)
        divergence = self.active_divergence
        dynamics = AugmentedField(
            with_own_product(field, x),
            x.shape[1:],
            divergence,
            drawn(divergence.draw, x),
            self.regularizers,
            direction=1 if bool(t1 > t0) else -1,
        )
        y = self.augmenter(x.flatten(1))
        problem = ODEProblem(
            dynamics,
            y,
            (t0, t1),
            parameters=self._differentiable(field),
            error_mask=dynamics.error_mask(y),
        )
        rows, self.stats = self._solve(dynamics, problem, x)
        return self._unpack(rows, x)

    def _solve(
        self, dynamics: AugmentedField, problem: ODEProblem, x: Tensor
    ) -> tuple[Tensor, SolveStats]:
        """Solve for all at the stages, or for the state alone and integrate the rest at nodes."""
        of_log_det, of_penalties = self.active_quadratures
        plan = Plan(of_log_det.draw(x), None if of_penalties is None else of_penalties.draw(x))
        if plan.has_nodes:
            # Again: the quadrature may have been changed since.
            check_solve_penalties(self.regularizers, (), self.end, self.active_quadratures)
            return carry_at_nodes(dynamics, problem, plan, self.active_solver)
        asked = PenalisedSolve(dynamics, problem, self.active_solver, [problem.t_span[1]])
        solution = solve(problem, asked.solver, save_at=asked.save_at)
        return asked.rows(solution)[0], solution.stats

    def _unpack(self, y: Tensor, like: Tensor) -> FlowResult:
        channels = 1 + len(self.regularizers)
        log_det, *values = y[:, :channels].unbind(1)
        penalties = {r.name: value for r, value in zip(self.regularizers, values, strict=True)}
        return FlowResult(y[:, channels:].view_as(like), log_det, penalties)

    def extra_repr(self) -> str:
        """Name the parts that are not modules."""
        at_nodes = "" if self.quadrature.at_stages else f", quadrature={self.quadrature}"
        return (
            f"solver={self.solver}, divergence={self.divergence}, "
            f"regularizers={list(self.regularizers)}, end_time={self._shown_end}{at_nodes}"
        )

    @property
    def _shown_end(self) -> object:
        return self.end_time if isinstance(self.end, Tensor) else self.end

    def __repr__(self) -> str:
        """Show the flow as modules are shown; torchdyn's own needs what we dropped."""
        return nn.Module.__repr__(self)
