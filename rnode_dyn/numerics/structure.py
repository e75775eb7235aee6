"""A state of several tensors, or of complex ones, and how it lies in one tensor of real numbers.

A structure is whatever torch's pytree registry knows: tuples, named tuples, lists, dicts, nested,
and what was registered, ``torch.utils._pytree.register_dataclass(State)``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_unflatten


@dataclass(frozen=True)
class Leaf:
    """One tensor of a structured state.

    Attributes:
        name: Where it stands, as one would write it.
        event: Its shape without the batch.
        dtype: Its numbers.
    """

    name: str
    event: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """How many real numbers it has a sample."""
        return math.prod(self.event) * (2 if self.dtype.is_complex else 1)

    def flat(self, leaf: Tensor) -> Tensor:
        """Return it as real numbers, ``(…, size)``, with its leading axes as they are."""
        leading = leaf.shape[: leaf.dim() - len(self.event)]
        real = torch.view_as_real(leaf.resolve_conj()) if self.dtype.is_complex else leaf
        return real.reshape(*leading, self.size)

    def whole(self, flat: Tensor) -> Tensor:
        """Return it as it was."""
        leading = flat.shape[:-1]
        if self.dtype.is_complex:
            return torch.complex(*flat.reshape(*leading, *self.event, 2).unbind(-1))
        return flat.reshape(*leading, *self.event)


class Structure:
    """How a structured state lies in one tensor ``(batch, size)``, leaf after leaf.

    Args:
        x0: The state.

    Raises:
        TypeError: if a leaf is no tensor, or of other numbers than the rest.
        ValueError: if a leaf has no batch, or another one.

    Example:
        >>> structure = Structure({"place": torch.zeros(5, 2), "mass": torch.ones(5)})
        >>> flat = structure.pack({"mass": torch.ones(5), "place": torch.zeros(5, 2)})
        >>> flat.shape, structure.unpack(flat)["mass"].shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, x0: Any) -> None:
        paths, self.spec = tree_flatten_with_path(x0)
        given = {f"x0{keystr(path)}": leaf for path, leaf in paths}
        _check_leaves(given)
        self.leaves = tuple(Leaf(n, tuple(x.shape[1:]), x.dtype) for n, x in given.items())
        self.sizes = [leaf.size for leaf in self.leaves]

    def __repr__(self) -> str:
        parts = (f"{leaf.name} (batch, {', '.join(map(str, leaf.event))})" for leaf in self.leaves)
        return ", ".join(parts).replace(", )", ")")

    def leaves_of(self, tree: Any) -> list[Any]:
        """Return the leaves of a tree of this structure.

        Raises:
            ValueError: if it is of another one, with torch's reason.
        """
        return self.spec.flatten_up_to(tree)

    def pack(self, tree: Any) -> Tensor:
        """Return a state as one tensor of real numbers."""
        pairs = zip(self.leaves, self.leaves_of(tree), strict=True)
        return torch.cat([leaf.flat(value) for leaf, value in pairs], -1)

    def unpack(self, flat: Tensor) -> Any:
        """Return ``(…, size)`` as the structure, whose leaves have the same leading axes."""
        parts = zip(self.leaves, flat.split(self.sizes, -1), strict=True)
        return tree_unflatten([leaf.whole(part) for leaf, part in parts], self.spec)

    @property
    def dtype(self) -> torch.dtype:
        """Of the real numbers."""
        return self.leaves[0].dtype.to_real()

    def spread(self, name: str, tree: Any, entries: Callable[[Leaf, Any], Tensor]) -> Tensor:
        """Return what is said of each leaf as one row, ``(size,)``.

        Args:
            name: What it is called.
            tree: A structure like the state's.
            entries: Makes of a leaf, and of what is said of it, a tensor of the leaf's event.

        Raises:
            ValueError: if it has another structure.
        """
        try:
            values = self.leaves_of(tree)
        except ValueError as error:
            raise ValueError(
                f"{name} has another structure than the state ({error}): write one value for each "
                f"of {self}."
            ) from error
        rows = []
        for leaf, value in zip(self.leaves, values, strict=True):
            row = entries(leaf, value).reshape(-1)
            # A complex number is a pair of real ones, side by side.
            rows.append(row.repeat_interleave(2) if leaf.dtype.is_complex else row)
        return torch.cat(rows)


def is_structured(x0: Any) -> bool:
    """Whether a state has to be packed: it is no tensor of real numbers."""
    return not isinstance(x0, Tensor) or x0.is_complex()


def _check_leaves(given: dict[str, Any]) -> None:
    if not given:
        raise ValueError("x0 holds no tensor: there is nothing to solve for.")
    for name, leaf in given.items():
        _check_leaf(name, leaf)
    first, *rest = given
    for name in rest:
        _check_alike(first, given[first], name, given[name])


def _check_leaf(name: str, leaf: Any) -> None:
    if not isinstance(leaf, Tensor) or not (leaf.is_floating_point() or leaf.is_complex()):
        what = leaf.dtype if isinstance(leaf, Tensor) else f"a {type(leaf).__name__}"
        raise TypeError(
            f"{name} is {what}, and a state is made of floating or complex tensors of shape "
            "(batch, *event): write torch.as_tensor(value, dtype=torch.float32); a class of your "
            "own is taken apart once it is registered, "
            "torch.utils._pytree.register_dataclass(State)."
        )
    if leaf.dim() < 1:
        raise ValueError(f"{name} is a scalar; it needs a batch dimension: write value[None].")
    if leaf.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(leaf.shape)}: there is nothing to solve for.")


def _check_alike(first: str, one: Tensor, name: str, other: Tensor) -> None:
    if len(one) != len(other):
        raise ValueError(
            f"{first} has a batch of {len(one)} and {name} one of {len(other)}: the first axis of "
            "every leaf is the batch, the same for all; write value.expand(batch, …) for what "
            "all samples share."
        )
    precisions = [x.dtype.to_real() for x in (one, other)]
    if precisions[0] != precisions[1]:
        raise TypeError(
            f"{first} is {one.dtype} and {name} {other.dtype}: one solve has one precision: write "
            ".to(torch.float64), or .to(torch.complex128), for both."
        )
    if one.device != other.device:
        raise ValueError(
            f"{first} is on {one.device} and {name} on {other.device}: move them to one device."
        )


def mask_of(leaf: Leaf, mask: Any) -> Tensor:
    """Return a leaf's part of ``error_mask`` for each of its entries.

    Raises:
        ValueError: if it is no boolean, or of another shape.
    """
    given = torch.as_tensor(mask)
    if given.dtype is not torch.bool or tuple(given.shape) not in ((), leaf.event):
        raise ValueError(
            f"error_mask is {given.dtype} of shape {tuple(given.shape)} for {leaf.name}; write "
            f"True, False, or a boolean tensor of shape {leaf.event}."
        )
    return given.expand(leaf.event)
