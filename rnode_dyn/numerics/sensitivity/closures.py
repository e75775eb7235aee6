"""Finding tensors that a field uses, that need a gradient, and that nobody has named."""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from rnode_dyn.numerics.sensitivity.anchor import ANCHOR
from rnode_dyn.numerics.sensitivity.naming import described


def refuse_unnamed_tensors(output: Tensor, known: Iterable[Tensor], field: Callable) -> None:
    """Raise where the graph of ``output`` reaches a leaf that ``known`` does not cover.

    An adjoint differentiates with respect to what it is told of. The parameters of a module are
    known; what a function has closed over, or a module holds without registering it, is not, and
    its gradient would be lost silently.

    Raises:
        ValueError: naming the tensor and what to write.
    """
    stranger = unnamed_leaf(output, known)
    if stranger is not None:
        raise ValueError(
            f"the field uses {described(stranger, field)} that needs a gradient, and that this "
            "sensitivity does not know of: make it a parameter of the field, an "
            "nn.Module, name the tensor in ODEProblem(…, parameters=(tensor,)), or take "
            "DiscreteAdjoint()."
        )


def unnamed_leaf(output: Tensor, known: Iterable[Tensor]) -> Tensor | None:
    """Return a leaf that the graph of ``output`` reaches and ``known`` does not cover."""
    return next(leaves_behind(output, known), None)


def leaves_behind(output: Tensor, known: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the leaves that the graph of ``output`` reaches without passing by one of ``known``."""
    known = tuple(known)
    leaves = {id(tensor) for tensor in (*known, ANCHOR) if tensor.is_leaf}
    seen = {tensor.grad_fn for tensor in known if tensor.grad_fn is not None}
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        parents = node.next_functions
        if parents:
            stack.extend([parent for parent, _ in parents])
            continue
        # Only what ends the graph holds a leaf.
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in leaves:
            yield variable
