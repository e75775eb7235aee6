"""The penalties of the layers in a network, from their last forward pass to the loss."""

from collections.abc import Callable, Iterator
from threading import Lock
from weakref import ref

import torch
from torch import Tensor, nn

from rnode_dyn.flows.weights import first_weight


class Call:
    """What one call of a layer left for the loss.

    The graph of the result holds it, so that it lives as long as a gradient can come that way.

    Args:
        owner: Who was called: the layer, or one of its replicas.
        result: What the call returned.
        value: The weighted penalties, ``(batch,)``.
    """

    def __init__(self, owner: object, result: Tensor, value: Tensor) -> None:
        self.owner, self.size, self.value = id(owner), len(value), value.mean()
        self.has_graph, self.is_spent = result.grad_fn is not None, False
        if result.grad_fn is not None:
            result.grad_fn.register_hook(self._spend)

    def _spend(self, *_gradients: object) -> None:
        self.is_spent = True


class Calls:
    """The calls of a layer in its last forward pass.

    A copy begins without any: a loss of the original's is none of its own. Replicas have them in
    common.
    """

    def __init__(self) -> None:
        self._last: Call | None = None
        self._all: list[Callable[[], Call | None]] = []
        self._was_asked, self._lock = False, Lock()

    def __reduce__(self) -> tuple:
        """Make a copy, or what comes out of a pickle, without calls."""
        return Calls, ()

    def add(self, call: Call) -> None:
        """Keep a call, and forget those that belong to an earlier forward pass."""
        with self._lock:
            before = [] if self._was_asked else self._all
            self._all = [held for held in before if _goes_on(held(), call)]
            # Only the last is kept for its own sake: its graph would hold those before it.
            self._all.append(ref(call) if call.has_graph else lambda: call)
            self._last, self._was_asked = call, False

    def total(self) -> Tensor | None:
        """The sum over calls, and the mean over replicas; ``None`` without a call."""
        self._was_asked = True
        calls = [call for held in self._all if (call := held()) is not None]
        sizes = {call.owner: call.size for call in reversed(calls)}
        whole = sum(sizes.values())
        return added([call.value * (sizes[call.owner] / whole) for call in calls])


def _goes_on(earlier: Call | None, call: Call) -> bool:
    """Whether a call is of the forward pass of an earlier one."""
    if earlier is None or earlier.is_spent:
        return False
    return earlier.has_graph == call.has_graph


def added(values: list[Tensor]) -> Tensor | None:
    """Return the sum, on the device of the first; ``None`` of nothing."""
    if not values:
        return None
    first, *others = values
    return sum((value.to(first.device) for value in others), first)


class Penalised(nn.Module):
    """A module that leaves penalties for the loss when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Calls()


def penalty(network: nn.Module) -> Tensor:
    """Return the weighted penalties of every :class:`RegularizedODE` in a network.

    Those of the last forward pass: Σ weight · penalty, the mean over the batch, summed over layers
    and over the calls of each. A forward pass is the last call of a layer, and those before it,
    since its penalties were last asked for, whose result is alive: what was thrown away, or has
    been differentiated, is of an earlier pass. Without gradients it is all calls since. Asking
    twice gives the same.

    Args:
        network: The network, of any nesting, wrapped in ``DataParallel`` or compiled too.

    Returns:
        A number, 0-dim, on the device of the first layer's; zero where there is no layer, or
        none was called.

    Raises:
        TypeError: if ``network`` is no module.

    Example:
        >>> from rnode_dyn import KineticEnergy, MLPField, RegularizedODE
        >>> layer = RegularizedODE(MLPField(2), regularizers=[KineticEnergy(0.1)])
        >>> network = nn.Sequential(nn.Linear(3, 2), layer, nn.Linear(2, 1))
        >>> loss = network(torch.zeros(4, 3)).square().mean() + penalty(network)
        >>> loss.shape
        torch.Size([])
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network is {network!r}; write the module that has the layers in it.")
    total = added(list(_totals(network)))
    if total is not None:
        return total
    like = first_weight(network)
    return torch.zeros((), dtype=like.dtype, device=like.device)


def _totals(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        total = module.calls.total() if isinstance(module, Penalised) else None
        if total is not None:
            yield total
