"""A field evaluated for some samples of the batch, each at a time of its own."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.at_times import at_times
from rnode_dyn.numerics.calling import as_called, calling_of, timed_parts
from rnode_dyn.numerics.jacobian import Linearization, linearize
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import CountedField

# How many samples are evaluated apart from the others, to see that they can be.
_LOOKED_AT = 4

# Takes times (n,) and states (n, *event).
_AtTimes = Callable[[Tensor, Tensor], Tensor]


class SampleField:
    """A counted field, for those samples of the batch that are still on their way.

    A field that holds something for each sample (noise, a condition) offers
    ``of_samples(samples)``, the field of the samples at these places of the batch.

    Args:
        counted: The field of the whole batch, whose counters count here too.
        batch: How many samples that has.
    """

    def __init__(self, counted: CountedField, batch: int) -> None:
        self.counted, self.batch = counted, batch
        stats = counted.stats
        if stats.nfe_per_sample is None:
            # Evaluations before the solve began were of the whole batch.
            stats.nfe_per_sample = torch.full((batch,), stats.nfe)
            stats.accepted_per_sample, stats.rejected_per_sample = (
                torch.zeros(batch, dtype=torch.long) for _ in range(2)
            )
        field = counted.problem.field
        self.needs_time = calling_of(field).takes_time or bool(timed_parts(field))
        self.place: np.ndarray | None = None
        self.there: Callable[[Tensor, Tensor], Tensor] = counted.problem.called
        self.linearized: tuple[np.ndarray, np.ndarray, Tensor, Linearization] | None = None

    def at_start(self, t: float, x: Tensor) -> Tensor:
        """Evaluate the field for all samples at one time; see that they can be told apart.

        Raises:
            ValueError: if a sample's slope is another beside other samples.
        """
        slope = self.counted(t, x)
        if self.batch > 1 and not x.is_meta:
            self._refuse_company(t, x.detach(), slope.detach())
        return slope

    def __call__(self, samples: np.ndarray, t: np.ndarray, x: Tensor) -> Tensor:
        """Evaluate the field.

        Args:
            samples: Their places in the batch, ``(n,)``.
            t: Their times, ``(n,)``.
            x: Their states, ``(n, *event)``.
        """
        self._count(samples)
        times = torch.from_numpy(t).to(dtype=x.dtype, device=x.device)
        return self.counted.counted(self.of(samples), times, x)

    def part(
        self, samples: np.ndarray, of: Callable[[Tensor], Tensor], x: Tensor, counts: bool
    ) -> Tensor:
        """Evaluate a part of the field that no time is told."""
        if counts:
            self._count(samples)
        return self.counted.part(of, x, counts)

    def linearize(self, samples: np.ndarray, t: np.ndarray, x: Tensor) -> Linearization:
        """Return the field's derivatives, for each sample at a time of its own.

        Where all samples try again from the same start, they are known.
        """
        known = self._known_derivatives(samples, t, x)
        if known is not None:
            return known
        times = torch.from_numpy(t).to(dtype=x.dtype, device=x.device)
        own = self._own_jacobian(samples, times, x)
        offered = None if own is None else lambda t, x: own
        found = linearize(self.of(samples), times, x, offered)
        self.linearized = None if torch.is_grad_enabled() else (samples, t, x, found)
        self.counted.count("njac")
        return found

    def _known_derivatives(
        self, samples: np.ndarray, t: np.ndarray, x: Tensor
    ) -> Linearization | None:
        # With a graph they belong to the step that they were computed in, which may be made again.
        if self.linearized is None or torch.is_grad_enabled():
            return None
        place, times, state, found = self.linearized
        is_there = state is x and place is samples and np.array_equal(times, t)
        return found if is_there else None

    def _own_jacobian(self, samples: np.ndarray, times: Tensor, x: Tensor) -> Tensor | None:
        """What the field's own Jacobian returns, where there is one that can be mapped."""
        jacobian = getattr(self._field_of(samples), "jacobian", None)
        if jacobian is None:
            return None
        try:
            return torch.func.vmap(lambda t, x: jacobian(t, x[None])[0])(times, x)
        except RuntimeError:
            return None

    def of(self, samples: np.ndarray) -> _AtTimes:
        """Return the field of these samples, for times of their own; nobody counts it."""
        if samples is not self.place:
            self.place, self.there = samples, self._restricted(samples)
        there = self.there
        return (lambda t, x: at_times(there, t, x)) if self.needs_time else there

    def _restricted(self, samples: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        problem, field = self.counted.problem, self._field_of(samples)
        return problem.called if field is problem.field else as_called(field)

    def _field_of(self, samples: np.ndarray) -> Callable:
        problem = self.counted.problem
        offered = getattr(problem.field, "of_samples", None)
        if offered is None or len(samples) == self.batch:
            return problem.field
        return offered(torch.from_numpy(samples).to(problem.x0.device))

    def _count(self, samples: np.ndarray) -> None:
        stats = self.counted.stats
        if self.counted.counter == "nfe" and stats.nfe_per_sample is not None:
            stats.nfe_per_sample[torch.from_numpy(samples)] += 1

    @torch.no_grad()
    def _refuse_company(self, t: float, x: Tensor, slope: Tensor) -> None:
        """Evaluate a few samples apart, in another order: they must not notice."""
        few = np.arange(self.batch - 1, max(0, self.batch - 1 - _LOOKED_AT), -1)
        places = torch.from_numpy(few).to(x.device)
        try:
            apart = self(few, np.full(len(few), t), x.index_select(0, places))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"AdaptiveStep(per_sample=True) evaluates some samples of a batch without the "
                f"others, and this field cannot be ({error}): what it holds for each sample it "
                "must hand out by a method of_samples(samples); or drop per_sample."
            ) from error
        if not bool(is_same(apart, slope.index_select(0, places))):
            raise ValueError(
                "AdaptiveStep(per_sample=True) evaluates some samples of a batch without the "
                "others, and this field then returns something else for them (batch normalisation "
                "in training mode, random numbers, samples that see each other): call "
                "field.eval(), or drop per_sample."
            )
