"""What a field uses besides its arguments: found while it is evaluated, not assumed.

An adjoint differentiates with respect to what it is told of. What autograd would have reached is
every tensor that an operation of the field takes and that wants a gradient: parameters, what the
field holds or closes over, a leaf or not. Below autograd all operations pass by one place, those
within ``torch.func``, traced and compiled code too, and that is where they are seen.
"""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import TensorWeakRef

# It writes its running statistics without saying so in its schema.
_BATCH_NORM = "batch_norm"


class Reach(TorchDispatchMode):
    """Within this context, notes the tensors from outside that operations read and write.

    Attributes:
        wanting: Those that want a gradient, in the order of their use.
        written: Those that are written to, each with a copy of what it held before.
        read: Those that are read and want no gradient, each with how often it had been written to.

    Example:
        >>> import torch
        >>> rate = torch.tensor(2.0, requires_grad=True)
        >>> count = torch.zeros(())
        >>> with torch.no_grad(), Reach() as reach:
        ...     _ = torch.ones(3) * rate
        ...     _ = count.add_(1)
        >>> reach.wanting[0] is rate, [(float(t), float(b)) for t, b in reach.written]
        (True, [(1.0, 0.0)])
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanting: list[Tensor] = []
        self.written: list[tuple[Tensor, Tensor]] = []
        self.read: list[tuple[Tensor, int]] = []
        self._known: set[int] = set()
        self._written: set[int] = set()
        self._made: dict[int, TensorWeakRef] = {}
        self._outside: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what an operation takes from outside, and do it."""
        kwargs = kwargs or {}
        for tensor in _tensors_in((args, kwargs)):
            self._note_read(tensor)
        for tensor in _written_by(func, args, kwargs):
            self._note_written(tensor)
        result = func(*args, **kwargs)
        # Not kept, which would hold all of an evaluation in memory: known while they are there.
        self._made.update((id(tensor), TensorWeakRef(tensor)) for tensor in _tensors_in(result))
        return result

    def _note_read(self, tensor: Tensor) -> None:
        if self._is_made(tensor) or id(tensor) in self._known:
            return
        self._known.add(id(tensor))
        self._outside.setdefault(_memory(tensor), tensor)
        if tensor.requires_grad:
            self.wanting.append(tensor)
        elif not tensor.is_inference():
            self.read.append((tensor, tensor._version))

    def _is_made(self, tensor: Tensor) -> bool:
        """Whether an operation returned it; another may have had its identity, and gone."""
        made = self._made.get(id(tensor))
        return made is not None and made() is tensor

    def _note_written(self, tensor: Tensor) -> None:
        # What is written to may be a view, made within, of what came from outside.
        outside = self._outside.get(_memory(tensor))
        if outside is not None and id(outside) not in self._written:
            self._written.add(id(outside))
            self.written.append((outside, outside.detach().clone()))


def _written_by(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes to."""
    named = func._schema.arguments
    given = list(zip(named, args, strict=False))
    given += [(argument, kwargs[argument.name]) for argument in named if argument.name in kwargs]
    trains_a_norm = _BATCH_NORM in func._schema.name and any(
        argument.name in ("training", "train") and value for argument, value in given
    )
    written = [
        value
        for argument, value in given
        if (argument.alias_info is not None and argument.alias_info.is_write)
        or (trains_a_norm and argument.name.startswith("running_"))
    ]
    return _tensors_in(written)


def _memory(tensor: Tensor) -> int:
    """Which memory a tensor stands in, the same for all its views; a sparse one has none."""
    try:
        return tensor.untyped_storage()._cdata
    except NotImplementedError:
        return id(tensor)


def _tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
