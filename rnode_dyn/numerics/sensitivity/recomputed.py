"""Steps of samples by themselves that autograd records, and that are made again on its way back."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.random_state import TorchRandomState
from rnode_dyn.numerics.sensitivity.gradient_watch import OTHER_STEP
from rnode_dyn.numerics.sensitivity.naming import described
from rnode_dyn.numerics.sensitivity.reach import Reach
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, Stretch, make_step


class RecomputedSteps:
    """Makes steps of which autograd keeps the start alone, by torch's checkpointing.

    The field must be the same function whenever it is evaluated, and stay it until the gradient has
    been computed: torch makes a step again without asking.

    Args:
        problem: What is solved.
        stats: Where evaluations are counted.

    Raises:
        ValueError: if the field draws random numbers or writes to a tensor of its own.
    """

    def __init__(self, problem: ODEProblem, stats: SolveStats) -> None:
        self.problem = problem
        self.backward_field = CountedField(problem, stats, "nfe_backward")
        random, x0 = TorchRandomState.now(problem.x0.device), problem.x0.detach()
        with torch.no_grad(), Reach() as reach:
            problem.called(x0.new_tensor(problem.span[0]), x0)
        if reach.written or not random.is_now():
            raise ValueError(
                "CheckpointedAdjoint makes the steps of each sample again by themselves, and this "
                "field draws random numbers or changes a buffer at each evaluation: freeze it, "
                "FrozenNoise(field) or field.eval(), or take DiscreteAdjoint()."
            )
        wanting = [(tensor, tensor._version) for tensor in reach.wanting]
        self.used = [*reach.read, *wanting]

    def make(
        self,
        algorithm: Algorithm,
        field: SampleField,
        stretch: Stretch,
        x: Tensor,
        slope: Tensor | None,
    ) -> SampleStep:
        """Make a step, as ``make_step`` does."""
        made: list[Tensor] = []

        def step(x: Tensor, slope: Tensor | None) -> SampleStep:
            field_now = field if not made else SampleField(self.backward_field, field.batch)
            if made:
                self._refuse_changes()
            now = make_step(algorithm, field_now, stretch, x, slope)
            # Here, so that its graph is not kept either.
            now.unit.slope_at_end(now.rhs)
            made.append(now.x1.detach().norm())
            check(is_same(made[-1], made[0]), lambda: RuntimeError(OTHER_STEP))
            return now

        with set_checkpoint_early_stop(False):
            result: Any = checkpoint(step, x, slope, use_reentrant=False)
        return result

    def _refuse_changes(self) -> None:
        for tensor, version in self.used:
            if tensor._version != version:
                raise RuntimeError(
                    f"{described(tensor, self.problem.field)} that the field uses was changed "
                    "between the solve and its gradient, which evaluates the field again: change "
                    "it before the solve or after the gradient."
                )
