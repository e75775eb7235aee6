"""What steps: an algorithm and a stepping, without a word on how the solve is differentiated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import ODEProblem, RightHandSide
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep, refuse_batched
from rnode_dyn.numerics.stepping.base import Stepping
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.solve import SampleSolve
from rnode_dyn.numerics.stepping.by_sample.step import Maker, SampleStep, Watcher, make_step
from rnode_dyn.numerics.stepping.dense import StateReader
from rnode_dyn.numerics.stepping.watch import SolveWatch
from rnode_dyn.numerics.transforms import within_transform


@dataclass(frozen=True)
class Integrator:
    """An algorithm and how far it steps: the part of a solver that a sensitivity is handed.

    Args:
        algorithm: How to step.
        stepping: How far.
        watch: What sees the steps and the saved states of the forward solve.
    """

    algorithm: Algorithm
    stepping: Stepping
    watch: SolveWatch = field(default_factory=SolveWatch, compare=False, repr=False)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Parameters of the algorithm itself: a hypersolver's."""
        return tuple(self.algorithm.parameters()) if isinstance(self.algorithm, nn.Module) else ()

    def steps(self, problem: ODEProblem, rhs: RightHandSide, stats: SolveStats) -> Iterator[Step]:
        """Yield the accepted steps of a forward solve."""
        norm = self.stepping.error_norm(problem.error_mask)
        span = problem.span
        steps = self.stepping.steps(self.algorithm, rhs, problem.x0, span, stats, norm)
        return self.watch.over(steps, self.algorithm)

    def reader(self, rhs: RightHandSide, times: Sequence[float]) -> StateReader:
        """Return what reads the states at ``times`` off a forward solve's steps."""
        return StateReader(self.algorithm, rhs, times, self.watch.note_saved)

    @property
    def per_sample(self) -> bool:
        """Whether every sample steps by itself: :meth:`sample_steps` is then to be asked."""
        return isinstance(self.stepping, AdaptiveStep) and self.stepping.per_sample

    def sample_steps(
        self,
        problem: ODEProblem,
        field: SampleField,
        watcher: Watcher | None = None,
        make: Maker = make_step,
    ) -> Iterator[SampleStep]:
        """Yield the steps of a forward solve that samples accept, each by itself.

        Raises:
            RuntimeError: within a transform of ``torch.func``, where samples could not be told
                apart.
        """
        x0, algorithm = problem.x0, self.algorithm
        refuse_batched(x0)
        if within_transform():
            raise RuntimeError(
                "samples that step by themselves (per_sample=True, events) do not go through the "
                "transforms of torch.func: differentiate by torch.autograd.grad, or let the batch "
                "step together."
            )
        control = self.stepping.sample_control(algorithm, problem.error_mask, len(x0))
        return SampleSolve(control, algorithm, field, x0, problem.span, watcher, make).run()
