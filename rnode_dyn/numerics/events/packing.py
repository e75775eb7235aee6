"""Events of a structured state as events of one tensor."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.structure import Structure


def packed_event(event: Event, structure: Structure | None) -> Event:
    """Return an event whose condition and ``apply`` are given the structure of the state.

    Example:
        >>> import torch
        >>> structure = Structure({"place": torch.zeros(4, 2), "mass": torch.ones(4)})
        >>> light = packed_event(Event(lambda t, x: x["mass"] - 0.5), structure)
        >>> light.values(torch.zeros(4), torch.zeros(4, 3))
        tensor([-0.5000, -0.5000, -0.5000, -0.5000])
    """
    if structure is None:
        return event
    apply = None if event.apply is None else _packed_apply(event.apply, structure)
    condition = event.condition
    return replace(event, condition=lambda t, x: condition(t, structure.unpack(x)), apply=apply)


def _packed_apply(
    apply: Callable[[Tensor, Any], Any], structure: Structure
) -> Callable[[Tensor, Tensor], Tensor]:
    def applied(t: Tensor, x: Tensor) -> Tensor:
        state = structure.unpack(x)
        after = apply(t, state)
        try:
            leaves = structure.leaves_of(after)
        except ValueError as error:
            raise ValueError(
                f"an event's apply returned another structure than the state's ({error}): it must "
                f"return the state to go on from, {structure}."
            ) from error
        for leaf, given, before in zip(
            structure.leaves, leaves, structure.leaves_of(state), strict=True
        ):
            _check_leaf(leaf.name, given, before)
        return structure.pack(after)

    return applied


def _check_leaf(name: str, given: Any, before: Tensor) -> None:
    if isinstance(given, Tensor) and (given.shape, given.dtype) == (before.shape, before.dtype):
        return
    what = type(given).__name__
    if isinstance(given, Tensor):
        what = f"{given.dtype} of shape {tuple(given.shape)}"
    raise ValueError(
        f"an event's apply returned {what} for {name}: it must return the state to go on from, "
        f"{before.dtype} of shape {tuple(before.shape)}."
    )
