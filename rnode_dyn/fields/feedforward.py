"""A stack of time-dependent linear layers with activations between, differentiated by hand."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from rnode_dyn.fields.activations import activation
from rnode_dyn.fields.condition import ConditionEmbedding, embedded
from rnode_dyn.fields.conditioned import Prepared


class TimeLayer(nn.Module):
    """A layer linear in the state and affine in time and condition: W x + t·w + b + C c."""

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Apply the layer; ``t`` is 0-dim, or ``(batch,)``: a time for every sample.

        Args:
            t: The time.
            x: The state, ``(batch, *event)``.
            shift: What :meth:`shift` made of the condition, where there is one.
        """

    @abstractmethod
    def shift(self, condition: Tensor) -> Tensor:
        """Return C c of embedded conditions ``(batch, width)``, as ``forward`` adds it."""

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
        embedding: What embeds the condition, which every layer takes then.
    """

    takes_times = True
    """It can be evaluated at a time of its own for every sample, see ``fields.at_times``."""

    def __init__(
        self,
        layers: Sequence[TimeLayer],
        activation_name: str,
        embedding: ConditionEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.activation_name = activation_name
        self.activation = activation(activation_name)
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    @property
    def takes_condition(self) -> bool:
        """Whether the field was built for one."""
        return self.embedding is not None

    def prepare(self, condition: Tensor | None, x: Tensor) -> Prepared | None:
        """Compute what the layers add for a condition, which stays the same for a solve."""
        vectors = embedded(self.embedding, condition, x)
        if vectors is None:
            return None
        return Prepared(tuple(layer.shift(vectors) for layer in self._time_layers))

    def forward(
        self,
        t: Tensor,
        x: Tensor,
        condition: Tensor | Prepared | None = None,
        args: Any = None,  # torchdyn's
    ) -> Tensor:
        """Evaluate the field at time ``t`` (0-dim or (batch,)) and state ``x`` (batch, *event)."""
        *shifts, last = self._shifts(condition, x)
        for layer, shift in zip(self.layers, shifts, strict=False):
            x = self.activation.function(layer(t, x, shift))
        return self.layers[-1](t, x, last)

    def value_and_vjp(
        self, t: Tensor, x: Tensor, v: Tensor, condition: Tensor | Prepared | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return f(t, x) and vᵀ ∂f/∂x."""
        before = []
        *shifts, last_shift = self._shifts(condition, x)
        for layer, shift in zip(self.layers, shifts, strict=False):
            before.append(layer(t, x, shift))
            x = self.activation.function(before[-1])
        value = self.layers[-1](t, x, last_shift)
        *hidden, last = self._time_layers
        v = last.transpose(v)
        for layer, a in zip(reversed(hidden), reversed(before), strict=True):
            v = layer.transpose(v * self.activation.derivative(a))
        return value, v

    def _shifts(
        self, condition: Tensor | Prepared | None, x: Tensor
    ) -> Sequence[Tensor] | Sequence[None]:
        prepared = condition if isinstance(condition, Prepared) else self.prepare(condition, x)
        return [None] * len(self.layers) if prepared is None else prepared.parts

    @property
    def _time_layers(self) -> list[TimeLayer]:
        return cast(list[TimeLayer], list(self.layers))
