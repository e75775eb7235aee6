"""A problem of a structured state as one of a single tensor, and its tolerances likewise."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.at_times import Wrapped
from rnode_dyn.numerics.calling import as_called
from rnode_dyn.numerics.errors import SolverError, first_line
from rnode_dyn.numerics.hamiltonian import Separated
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.slope import check_slope
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep
from rnode_dyn.numerics.stepping.base import Stepping
from rnode_dyn.numerics.structure import Leaf, Structure, mask_of


class PackedField(Wrapped):
    """A field of a structured state as a field of one tensor ``(batch, size)``.

    Args:
        field: As it was written.
        called: The same as f(t, x).
        structure: Of the state.
    """

    def __init__(
        self,
        field: Callable[..., Any],
        called: Callable[[Tensor, Any], Any],
        structure: Structure,
    ) -> None:
        self.field, self.called, self.structure = field, called, structure
        self.is_new = True

    @property
    def written(self) -> Callable:
        """The field as it was written, by which it is told whether it takes a time a sample."""
        return self.field

    @property
    def of_samples(self) -> Callable[[Tensor], "PackedField"] | None:
        """The field of some samples, where it hands that out."""
        offered = getattr(self.field, "of_samples", None)
        if offered is None:
            return None

        def of_samples(samples: Tensor) -> "PackedField":
            field = offered(samples)
            return PackedField(field, as_called(field), self.structure)

        return of_samples

    @property
    def separated(self) -> Separated | None:
        """The halves of a Hamiltonian's field, of a state ``(q, p)``, where it is one."""
        separated = getattr(self.field, "separated", None)
        return None if separated is None else PackedHalves(separated, *self.structure.leaves)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field; its answer must have the structure of the state."""
        state = self.structure.unpack(x)
        slope = self._first(t, state) if self.is_new else self.called(t, state)
        self._check(slope, state)
        return self.structure.pack(slope)

    def _first(self, t: Tensor, state: Any) -> Any:
        self.is_new = False
        try:
            return self.called(t, state)
        except (SolverError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"the field fails on a state of {self.structure} ({first_line(error)}): it must "
                "take such a structure, f(t, x), and return dx/dt in the same."
            ) from error

    def _check(self, slope: Any, state: Any) -> None:
        try:
            slopes = self.structure.leaves_of(slope)
        except ValueError as error:
            raise ValueError(
                f"the field returned another structure than that of the state ({error}): it must "
                f"return dx/dt for {self.structure}, at every evaluation."
            ) from error
        leaves = zip(self.structure.leaves, slopes, self.structure.leaves_of(state), strict=True)
        for leaf, rate, value in leaves:
            _check_leaf(leaf, rate, value)


@dataclass(frozen=True)
class PackedHalves:
    """The halves of a Hamiltonian's field, of q and p that lie flat, ``(batch, size)``.

    Args:
        separated: As they take q and p in their own shape.
        q: That shape.
        p: That of p.
    """

    separated: Separated
    q: Leaf
    p: Leaf

    def velocity(self, p: Tensor) -> Tensor:
        """Return dq/dt."""
        return self.q.flat(self.separated.velocity(self.p.whole(p)))

    def force(self, q: Tensor) -> Tensor:
        """Return dp/dt."""
        return self.p.flat(self.separated.force(self.q.whole(q)))


def _check_leaf(leaf: Leaf, slope: Any, value: Tensor) -> None:
    try:
        check_slope(slope, value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"of {leaf.name}, {error}") from None


def packed(problem: ODEProblem) -> ODEProblem:
    """Return a problem of a structured state as one of a single tensor; others as they are.

    Example:
        >>> field = lambda t, x: {"angle": x["speed"], "speed": -x["angle"].sin()}
        >>> start = {"angle": torch.ones(4), "speed": torch.zeros(4)}
        >>> packed(ODEProblem(field, start, (0.0, 1.0))).x0.shape
        torch.Size([4, 2])
    """
    structure = problem.structure
    if structure is None:
        return problem
    mask = problem.error_mask
    # A new one, not a changed one: a HamiltonianProblem makes its field by itself.
    flat = ODEProblem(
        PackedField(problem.field, problem.called, structure),
        structure.pack(problem.x0),
        problem.t_span,
        parameters=problem.known_tensors,
        error_mask=None if mask is None else structure.spread("error_mask", mask, mask_of),
    )
    # The times are floats by now, and no longer tell what they were rounded to.
    object.__setattr__(flat, "time_rounding", problem.time_rounding)
    return flat


def packed_stepping(stepping: Stepping, problem: ODEProblem) -> Stepping:
    """Return a stepping whose tolerances fit the packed state.

    Args:
        stepping: As it was written.
        problem: As it was written.

    Raises:
        ValueError: if a tolerance has neither one value nor the structure of the state.
    """
    if not isinstance(stepping, AdaptiveStep):
        return stepping
    given = {"rtol": stepping.rtol, "atol": stepping.atol}
    several = {name: value for name, value in given.items() if not isinstance(value, float)}
    if not several:
        return stepping
    return replace(stepping, **{name: _row(name, v, problem) for name, v in several.items()})


def _row(name: str, given: Any, problem: ODEProblem) -> Tensor:
    """A tolerance for each entry of a packed sample, or of one that needed no packing."""
    if problem.structure is not None:
        row = problem.structure.spread(name, given, partial(_tolerance_of, name))
        like = problem.structure.leaves_of(problem.x0)[0]
        return row.to(device=like.device, dtype=problem.structure.dtype)
    event = problem.x0.shape[1:]
    if not isinstance(given, Tensor) or given.shape != event:
        what = f"of shape {tuple(given.shape)}" if isinstance(given, Tensor) else "a structure"
        raise ValueError(
            f"{name} is {what}, and a sample of the state is one tensor of shape {tuple(event)}: "
            "write a number, or a tensor of this shape."
        )
    return given.to(problem.x0)


def _tolerance_of(name: str, leaf: Leaf, given: Any) -> Tensor:
    values = torch.as_tensor(given, dtype=torch.float64)
    if tuple(values.shape) not in ((), leaf.event):
        raise ValueError(
            f"{name} is of shape {tuple(values.shape)} for {leaf.name}; write a number, or a "
            f"tensor of shape {leaf.event}."
        )
    return values.expand(leaf.event)
