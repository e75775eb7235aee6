"""A field with a condition that is fixed for a solve: a frozen pair, no state in the module."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rnode_dyn.fields.condition import check_rows
from rnode_dyn.numerics.at_times import HasRows, Wrapped, as_written, says_of_forward
from rnode_dyn.numerics.calling import Calling, calling_of

_PREPARE = "prepare"


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a field has made of a condition, once for all evaluations of a solve.

    Attributes:
        parts: Tensors, a row a sample each.
    """

    parts: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Conditioned(Wrapped, HasRows):
    """The field f(t, x) that is left of f(t, x, condition).

    Attributes:
        field: f(t, x, condition).
        given: The condition as the field is called with it: a tensor, or what it has prepared.
    """

    field: nn.Module
    given: Tensor | Prepared

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        return self.field(t, x, condition=self.given)

    @property
    def written(self) -> Any:
        """The field as it was written."""
        return as_written(self.field)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """The tensors through which a gradient reaches the condition, a row a sample."""
        return self.given.parts if isinstance(self.given, Prepared) else (self.given,)

    def with_rows(self, rows: tuple[Tensor, ...]) -> "Conditioned":
        """Return the pair for a single sample, given its row of each."""
        return self._holding([row[None] for row in rows])

    def of_samples(self, samples: Tensor) -> "Conditioned":
        """Return the pair for the samples at these places of the batch."""
        return self._holding([part.index_select(0, samples) for part in self.rows])

    def _holding(self, rows: Sequence[Tensor]) -> "Conditioned":
        prepared = isinstance(self.given, Prepared)
        return Conditioned(self.field, Prepared(tuple(rows)) if prepared else rows[0])


def conditioned(field: nn.Module, condition: Tensor | None, x: Tensor) -> nn.Module | Conditioned:
    """Return f(t, x) for a solve: the field itself, or the pair of it and its condition.

    A field of whose ``forward`` the class says ``prepare(condition, x)`` prepares a condition once
    a solve, and is called with the result; any other is called with the condition itself.

    Args:
        field: The field, as :func:`~rnode_dyn.fields.as_field.as_field` returns it.
        condition: Its condition, a row a sample; or ``None``.
        x: The states, ``(batch, *event)``.

    Raises:
        TypeError: if the condition is no tensor, or of another kind than the field takes.
        ValueError: if it is missing or one too many, or does not fit.

    Example:
        >>> import torch
        >>> from rnode_dyn.fields.as_field import as_field
        >>> field, c = as_field(lambda t, x, condition: condition * x), torch.full((3, 1), 2.0)
        >>> conditioned(field, c, torch.ones(3, 1))(torch.zeros(()), torch.ones(3, 1)).sum()
        tensor(6.)
    """
    if says_of_forward(field, _PREPARE):
        prepared = getattr(as_written(field), _PREPARE)(condition, x)
        return field if prepared is None else Conditioned(field, prepared)
    _check_taken(field, condition)
    if condition is None:
        return field
    check_rows(condition, x)
    return Conditioned(field, condition)


def takes_condition(field: nn.Module) -> bool:
    """Whether a field takes a condition: by its signature, or by its own word if it has one.

    Example:
        >>> from rnode_dyn import MLPField
        >>> takes_condition(MLPField(2)), takes_condition(MLPField(2, classes=10))
        (False, True)
    """
    says = getattr(as_written(field), "takes_condition", True)
    return _calling(field).takes_condition and bool(says)


def _calling(field: nn.Module) -> Calling:
    known: Any = getattr(field, "calling", None)
    return known if isinstance(known, Calling) else calling_of(field)


def _check_taken(field: nn.Module, condition: Tensor | None) -> None:
    if condition is None and _calling(field).needs_condition:
        raise ValueError("the condition is missing: the field takes one; write condition=….")
    if condition is not None and not takes_condition(field):
        raise ValueError(
            "a condition was given, and the field takes none: leave it out, or write the field as "
            "f(t, x, condition)."
        )
