"""A field on images that sees them at several sizes: strong, and cheap for its strength."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn.fields.activations import activation as activation_of
from rnode_dyn.fields.condition import embedded, embedding_for
from rnode_dyn.fields.conditioned import Prepared
from rnode_dyn.numerics.numbers import truth, whole

GROUPS = 8
"""Groups of channels that are normalised together; widths are multiples of it."""

_HEADS = 4
_FREQUENCIES = 16
_HIGHEST = 64.0


class TimeSines(nn.Module):
    """Sines and cosines of the time, of angular frequencies from 1 to 64, and a layer on them.

    Frequencies end where a unit of time still has few waves: a faster one would make the field
    stiff in time.
    """

    frequencies: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        spread = torch.linspace(0.0, math.log(_HIGHEST), _FREQUENCIES).exp()
        self.register_buffer("frequencies", spread, persistent=False)
        self.linear = nn.Linear(2 * _FREQUENCIES, outputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the frequencies as a module is moved, and never round them to half precision.

        A field that has been trained so is scored, and loaded again, in single.
        """
        exact = self.frequencies
        super()._apply(fn, recurse)
        if self.frequencies.dtype in (torch.float16, torch.bfloat16):
            self.frequencies = exact.to(self.frequencies.device)
        return self

    def forward(self, t: Tensor) -> Tensor:
        """Return features ``(batch, outputs)`` of times ``(batch,)``; ``(1, outputs)`` of one."""
        angles = t.reshape(-1, 1) * self.frequencies
        return self.linear(torch.cat([angles.sin(), angles.cos()], dim=1).to(self.linear.weight))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a direct way, with the time's features added between them."""

    def __init__(self, inputs: int, outputs: int, features: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_of(activation).function
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
        self.from_features = nn.Linear(features, outputs)
        self.direct = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Apply the block to ``x`` (batch, inputs, height, width)."""
        y = self.conv1(self.activation(self.norm1(x)))
        y = y + self.from_features(features)[:, :, None, None]
        return self.direct(x) + self.conv2(self.activation(self.norm2(y)))


class PixelAttention(nn.Module):
    """Attention of every pixel to all of its image, beside a direct way.

    It is written in plain products: torch's own attention cannot be differentiated twice.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.to_parts = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to ``x`` (batch, channels, height, width)."""
        parts = self.to_parts(self.norm(x)).flatten(2).unflatten(1, (3, _HEADS, -1))
        query, key, value = parts.unbind(1)
        weights = (query.mT @ key / math.sqrt(query.shape[2])).softmax(-1)
        return x + self.out((value @ weights.mT).reshape_as(x))


class UNetField(nn.Module):
    """A U-Net f(t, x) on images: down to small ones, and up again.

    Every level has residual blocks on the way down and on the way up, which also see what
    the way down had there (Ronneberger et al. 2015); each level halves the sides and, unless told
    otherwise, doubles the channels. Groups of channels are normalised (Wu & He 2018) within each
    sample, so that samples do not see each other. The last layer starts at zero, and the flow as
    the identity.

    Args:
        channels: Channels of the state, ``x`` being ``(batch, channels, height, width)``.
        width: Channels of the first level, a multiple of 8.
        levels: Sizes at which the image is seen; sides must be divisible by 2 one time fewer.
        attention: Whether the pixels of the smallest size attend to each other.
        activation: ``softplus``, ``tanh``, ``elu``, ``silu`` or ``sigmoid``.
        condition: Numbers in a condition ``(batch, condition)``, whose embedding every block sees
            with the time's.
        classes: Classes, where conditions are labels ``(batch,)`` from 0 to ``classes`` − 1.
        embedding: Width of what the condition is embedded in; left out, four times the width.
        label_dropout: How probably a training sample's label is left out, see
            :class:`~rnode_dyn.ConditionEmbedding`.
        growth: What each level multiplies the channels by. With 1 a field of the same cost spends
            more at the image's own size, where the likelihood of most pixels is decided.
        depth: Residual blocks of a level on the way down, and as many on the way up.
        skip: Whether c(t)·x is added, with c(t) = (2t − 1)/(t² + (1 − t)²): the velocity of
            straight paths from standard normal data to standard normal noise at time 1. In a flow
            of one block that ends there the untrained flow is still the identity, and what is left
            to learn near the data is small (as Karras et al., Elucidating the design space of
            diffusion models, 2022, have it); other blocks have other paths, and want none.

    Raises:
        ValueError: if the width is no multiple of 8; when called, if the image does not fit.

    Example:
        >>> import torch
        >>> field = UNetField(channels=1, width=8, levels=2)
        >>> field(torch.tensor(0.5), torch.zeros(2, 1, 6, 8)).shape
        torch.Size([2, 1, 6, 8])
    """

    takes_times = True
    """It can be evaluated at a time of its own for every sample, see ``fields.at_times``."""

    def __init__(
        self,
        channels: int,
        width: int = 32,
        levels: int = 3,
        attention: bool = False,
        activation: str = "silu",
        condition: int | None = None,
        classes: int | None = None,
        embedding: int | None = None,
        label_dropout: float = 0.0,
        growth: int = 2,
        depth: int = 1,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.levels, self.skip = (
            whole("UNetField", "levels", levels),
            truth("UNetField", "skip", skip),
        )
        growth, depth = whole("UNetField", "growth", growth), whole("UNetField", "depth", depth)
        channels, width = (
            whole("UNetField", "channels", channels),
            whole("UNetField", "width", width),
        )
        widths = [width * growth**i for i in range(self.levels)]
        if width % GROUPS:
            raise ValueError(
                f"width is {width}; write a multiple of {GROUPS}, since channels are normalised "
                f"in {GROUPS} groups."
            )
        features = 4 * width
        self.activation = activation_of(activation).function

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, features, activation)

        def deeper() -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(block(w, w) for _ in range(depth - 1)) for w in widths
            )

        self.features = TimeSines(features)
        self.first = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.down = nn.ModuleList(block(i, o) for i, o in pairwise([width, *widths]))
        self.halve = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        attends = truth("UNetField", "attention", attention)
        self.attention = PixelAttention(widths[-1]) if attends else nn.Identity()
        self.middle = block(widths[-1], widths[-1])
        above = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(block(a + w, w) for a, w in zip(above, widths, strict=True))
        self.deeper_down, self.deeper_up = deeper(), deeper()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.last = nn.Conv2d(width, channels, kernel_size=3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.embedding = embedding_for(condition, classes, embedding or features, label_dropout)
        if self.embedding is not None:
            self.from_condition = nn.Linear(self.embedding.width, features)

    @property
    def takes_condition(self) -> bool:
        """Whether the field was built for one."""
        return self.embedding is not None

    def prepare(self, condition: Tensor | None, x: Tensor) -> Prepared | None:
        """Compute the features of a condition, which stay the same for a solve."""
        vectors = embedded(self.embedding, condition, x)
        return None if vectors is None else Prepared((self.from_condition(vectors),))

    def forward(
        self,
        t: Tensor,
        x: Tensor,
        condition: Tensor | Prepared | None = None,
        args: Any = None,  # torchdyn's
    ) -> Tensor:
        """Evaluate the field at time ``t`` (0-dim or (batch,)) and state ``x`` (batch, *event)."""
        check_fits(x.shape[1:], self.levels)
        given = condition if isinstance(condition, Prepared) else self.prepare(condition, x)
        features = self.features(t)
        features = self.activation(features if given is None else features + given.parts[0])
        start, x, seen = x, self.first(x), []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.halve[level - 1](x), features)
            x = _through(self.deeper_down[level], x, features)
            seen.append(x)
        x = self.middle(self.attention(x), features)
        for level in reversed(range(self.levels)):
            x = self.up[level](torch.cat([x, seen[level]], dim=1), features)
            x = _through(self.deeper_up[level], x, features)
            x = F.interpolate(x, scale_factor=2.0) if level else x
        x = self.last(self.activation(self.norm(x)))
        return x + _between_normals(t, start) * start if self.skip else x


def _between_normals(t: Tensor, x: Tensor) -> Tensor:
    """c(t), shaped so as to multiply ``x``: what straight paths between normal samples grow by."""
    t = t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return (2 * t - 1) / (t.square() + (1 - t).square())


def _through(blocks: nn.Module, x: Tensor, features: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, features)
    return x


def check_fits(shape: Sequence[int], levels: int) -> None:
    """Refuse samples that a U-Net of so many levels cannot take.

    Raises:
        ValueError: saying which number of levels would fit.
    """
    if len(shape) != 3:
        raise ValueError(f"a U-Net takes images, and a sample has shape {tuple(shape)}.")
    height, width = shape[1:]
    most = most_levels(height, width)
    if levels > most:
        reason = f"{levels} levels halve an image of {height}×{width} pixels {levels - 1} times"
        mend = f"write {most} or fewer" if most else "no U-Net can take it"
        raise ValueError(f"{reason}, which must leave whole sides of 2 or more: {mend}.")


def most_levels(height: int, width: int) -> int:
    """Return how many levels an image can have: whole sides of 2 or more at the last.

    Example:
        >>> most_levels(28, 28), most_levels(32, 32), most_levels(1, 1)
        (3, 5, 0)
    """
    count = 0
    while min(height, width) >> count >= 2:
        count += 1
        if (height | width) & ((1 << count) - 1):
            break
    return count
