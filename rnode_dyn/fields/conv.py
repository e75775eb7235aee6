"""A field on images."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn.fields.condition import embedding_for
from rnode_dyn.fields.feedforward import FeedForwardField, TimeLayer


class TimeConv(TimeLayer):
    """A 3×3 convolution of the image and of one channel that holds the time; a condition shifts it.

    The time channel is constant over the image, so its convolution is ``t`` times one map that is
    the same for the whole batch: the same parameters and values as concatenating the channel,
    without copying the batch.
    """

    def __init__(self, inputs: int, outputs: int, condition: int = 0) -> None:
        super().__init__()
        whole = nn.Conv2d(inputs + 1, outputs, kernel_size=3, padding=1)
        assert whole.bias is not None
        self.weight = nn.Parameter(whole.weight[:, 1:].detach().clone())
        self.time_weight = nn.Parameter(whole.weight[:, :1].detach().clone())
        self.bias = nn.Parameter(whole.bias.detach())
        self.condition_weight = None
        if condition:
            self.condition_weight = nn.Linear(condition, outputs, bias=False).weight

    def forward(self, t: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Apply the layer to ``x`` (batch, inputs, height, width)."""
        y = self._of_time_and_state(t, x)
        return y if shift is None else y + shift

    def _of_time_and_state(self, t: Tensor, x: Tensor) -> Tensor:
        if t.dim():
            ones = x.new_ones(1, 1, *x.shape[2:])
            slope = F.conv2d(ones, self.time_weight, padding=1)
            y = F.conv2d(x, self.weight, self.bias, padding=1)
            return _plus_image(y, slope, t[:, None, None, None])
        time = t.expand(1, 1, *x.shape[2:]).to(x.dtype)
        shift = F.conv2d(time, self.time_weight, self.bias, padding=1)
        return _plus_image(F.conv2d(x, self.weight, padding=1), shift)

    def transpose(self, v: Tensor) -> Tensor:
        """Return vᵀ W for ``v`` (batch, outputs, height, width)."""
        return F.conv_transpose2d(v, self.weight, padding=1)

    def shift(self, condition: Tensor) -> Tensor:
        """Return what to add for embedded conditions, ``(batch, outputs, 1, 1)``."""
        assert self.condition_weight is not None
        return F.linear(condition, self.condition_weight)[:, :, None, None]


def _plus_image(y: Tensor, image: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """Return ``y`` + ``factor`` · ``image``, the image being the same for the whole batch.

    The image's gradient is a sum over the batch. Where the channels of a pixel lie together, torch
    sums images an order of magnitude slower than the same memory seen with its axes in order: so
    the addition is done on that view. Values and gradients are the same, to rounding.
    """
    if y.stride(1) != 1:
        return y + factor * image
    return (y.movedim(1, -1) + factor * image.movedim(1, -1)).movedim(-1, 1)


class ConvField(FeedForwardField):
    """A stack of 3×3 convolutions f(t, x) or f(t, x, condition) on images.

    Time is a channel of every convolution; a condition shifts the channels of each.

    The field of the paper's image models (Finlay et al. 2020): hidden layers of 64
    channels, softplus between.

    Args:
        channels: Channels of the state, ``x`` being ``(batch, channels, height, width)``.
        hidden: Channels of the hidden layers.
        activation: ``softplus``, ``tanh``, ``elu``, ``silu`` or ``sigmoid``.
        condition: Numbers in a condition ``(batch, condition)``.
        classes: Classes, where conditions are labels ``(batch,)`` from 0 to ``classes`` − 1.
        embedding: Width of what the condition is embedded in, see
            :class:`~rnode_dyn.ConditionEmbedding`.
        label_dropout: How probably a training sample's label is left out, likewise.

    Example:
        >>> import torch
        >>> field = ConvField(channels=1, hidden=(8, 8))
        >>> field(torch.tensor(0.5), torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        hidden: Sequence[int] = (64, 64, 64),
        activation: str = "softplus",
        condition: int | None = None,
        classes: int | None = None,
        embedding: int | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        embeds = embedding_for(condition, classes, embedding, label_dropout)
        width = 0 if embeds is None else embeds.width
        widths = [channels, *hidden, channels]
        super().__init__([TimeConv(i, o, width) for i, o in pairwise(widths)], activation, embeds)
