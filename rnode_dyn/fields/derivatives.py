"""Operations that cannot be differentiated as often as a flow does it, found before a number is.

The log-determinant is a first derivative of the field and its gradient a second one; a penalty that
differentiates along the flow takes one more.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode

# Their backward passes have no derivative in torch, or one that raises.
_ONCE = ("ScaledDotProduct", "CudnnRnn", "MiopenRnn", "MkldnnRnn")
# What the decorator puts in a backward's place; of functions linear in their gradient, which is
# all that autograd asks about, it returns one that hides what else it depends on.
_WRAPPED = once_differentiable(lambda ctx: None).__code__


def refuse_once_differentiable(value: Tensor, x: Tensor) -> None:
    """Raise where autograd would lose a second derivative, silently or not.

    Args:
        value: f(t, x), with autograd's record of it.
        x: What it was computed from, where the search ends.

    Raises:
        ValueError: naming the operation.
    """
    seen, stack = {x.grad_fn}, [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if _differentiates_once(node):
            raise ValueError(
                f"the field uses an operation ({node.name()}) whose backward pass torch cannot "
                "differentiate, and a log-determinant or a penalty needs that: write its backward "
                "without once_differentiable, or the operation otherwise; of attention, torch's "
                "sdpa_kernel(SDPBackend.MATH) chooses one that can be."
            )
        stack.extend(parent for parent, _ in node.next_functions)


def _differentiates_once(node: Any) -> bool:
    function = getattr(node, "_forward_cls", None)
    if function is None:
        return node.name().startswith(_ONCE)
    return getattr(function.backward, "__code__", None) is _WRAPPED


class AlongWatch(TorchDispatchMode):
    """Watches the evaluation of a field whose change along the flow will be asked for.

    Attributes:
        normalizes: The name of a normalisation whose third derivative torch has wrong (the
            statistics kept by its backward pass count as constants in it), if there was one.
    """

    normalizes: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation; one that reads a number off the time or the state is refused."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and args[0].requires_grad:
            raise ValueError(
                "the field reads a number off the time or the state (float(t), t.item()), through "
                "which no derivative goes, and a penalty asks for that derivative: write torch's "
                "operations, torch.sin(t) and not math.sin(t)."
            )
        if _normalizes(func, args, kwargs):
            self.normalizes = func._schema.name.removeprefix("aten::")
        return func(*args, **kwargs)

    def refuse_third_derivatives(self) -> None:
        """Raise where a gradient of what is differentiated twice would be wrong."""
        if self.normalizes is not None:
            raise ValueError(
                f"torch's third derivatives of {self.normalizes} are wrong, and the gradient of a "
                "penalty along the flow needs them: take nn.GroupNorm or nn.RMSNorm, write the "
                "normalisation out with mean() and sqrt(), or leave DirectionalDerivative and "
                "TotalDerivative out."
            )


def _normalizes(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation divides by statistics of its own that torch keeps for going back."""
    name = func._schema.name
    if "layer_norm" in name:
        return True
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    return "batch_norm" in name and bool(given.get("training", given.get("train", True)))
