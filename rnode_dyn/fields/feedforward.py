"""A stack of time-dependent linear layers with activations between, differentiated by hand."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from rnode_dyn.fields.activations import activation


class TimeLayer(nn.Module):
    """A layer linear in the state and affine in time: W x + t·w + b."""

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Apply the layer; ``t`` is 0-dim, or ``(batch,)``: a time for every sample."""

    @abstractmethod
    def transpose(self, v: Tensor) -> Tensor:
        """Return vᵀ W: the vector-Jacobian product with respect to the state."""


class FeedForwardField(nn.Module):
    """f(t, x) = L(… σ(L(t, σ(L(t, x))))): the field of the paper's models.

    The vector-Jacobian product is written out: one pass forward keeps the pre-activations, one
    pass back multiplies by σ' and each layer's transpose. That is faster than building a graph to
    walk it, and works where autograd is off.

    Args:
        layers: The layers, the last without an activation; its weights start at zero, so that the
            flow starts as the identity.
        activation_name: Name of σ.
    """

    takes_times = True
    """It can be evaluated at a time of its own for every sample, see ``fields.at_times``."""

    def __init__(self, layers: Sequence[TimeLayer], activation_name: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation_name = activation_name
        self.activation = activation(activation_name)
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:  # torchdyn's
        """Evaluate the field at time ``t`` (0-dim or (batch,)) and state ``x`` (batch, *event)."""
        for layer in self.layers[:-1]:
            x = self.activation.function(layer(t, x))
        return self.layers[-1](t, x)

    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, x) and vᵀ ∂f/∂x."""
        before = []
        for layer in self.layers[:-1]:
            before.append(layer(t, x))
            x = self.activation.function(before[-1])
        value = self.layers[-1](t, x)
        *hidden, last = cast(list[TimeLayer], list(self.layers))
        v = last.transpose(v)
        for layer, a in zip(reversed(hidden), reversed(before), strict=True):
            v = layer.transpose(v * self.activation.derivative(a))
        return value, v
