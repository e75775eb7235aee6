"""Dequantization that is learned: noise moves within its pixel's bin, as the image asks for."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.transforms import Transform
from rnode_dyn.numerics.numbers import whole

_MOST = 2.0
"""Largest |log scale| of a step: more would leave float32 no way back."""

_INNERMOST = 2.0**-20

_MOST_LEVELS = 2**16

_Way = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the noise's logits, the image, and which move, to moved ones and the log scale of each."""


class VariationalDequantization(Transform):
    """Moves u = (pixel + noise)/levels within its bin (Ho et al., Flow++, 2019, section 3.1).

    Uniform noise comes in, and what leaves has the density q(noise | image) of a small conditional
    flow: affine steps on the noise's logits, the first by the image alone, the others by the image
    and every other pixel's noise. Bins are mapped onto themselves, so that with this transform in
    front the likelihood of uniformly dequantized pixels **is** the variational bound: for uniform
    noise, log p(u) + log |det| is log p(u) − log q(noise | image). It starts as the identity, and
    trains with the flow's likelihood; objectives that solve nothing leave it as it is.

    Args:
        event_shape: Shape of an image, ``(channels, height, width)``.
        levels: Values a pixel can take.
        width: Channels of the steps' networks.
        couplings: Steps that see noise; they take turns at the fields of a checkerboard.

    Raises:
        ValueError: if samples are no images, or a number is none.

    Example:
        >>> dequantization = VariationalDequantization((1, 4, 4), levels=17, width=8)
        >>> u = (torch.randint(17, (2, 1, 4, 4)) + 0.5) / 17
        >>> moved, log_det, _ = dequantization(u)
        >>> torch.allclose(moved, u), log_det
        (True, tensor([0., 0.], grad_fn=<SumBackward1>))
    """

    board: Tensor

    def __init__(
        self, event_shape: Sequence[int], levels: int, width: int = 32, couplings: int = 4
    ) -> None:
        super().__init__()
        self.event_shape = _image(event_shape)
        self.levels = whole("VariationalDequantization", "levels", levels)
        if not 2 <= self.levels <= _MOST_LEVELS:
            raise ValueError(
                f"VariationalDequantization: levels is {levels}; write 2 or more, at most "
                f"{_MOST_LEVELS:,}, of which float32 still tells noise within a bin."
            )
        channels, height, width_of_image = self.event_shape
        squares = torch.arange(height)[:, None] + torch.arange(width_of_image)
        self.register_buffer("board", squares % 2 == 0, persistent=False)
        whole("VariationalDequantization", "width", width)
        count = 1 + whole("VariationalDequantization", "couplings", couplings)
        self.nets = nn.ModuleList(_net(channels, width) for _ in range(count))

    def forward(self, x: Tensor) -> FlowResult:
        """Move the noise of points of the unit cube; others, and bins' edges, stay as they are."""
        return self._move(x, self._there)

    def inverse(self, z: Tensor) -> FlowResult:
        """Move it back."""
        return self._move(z, self._back)

    def _move(self, x: Tensor, way: _Way) -> FlowResult:
        pixels = (x * self.levels).floor()
        inside = (x >= 0) & (x < 1)
        # Uniform dequantization puts what is nearer to an edge than half of this at half of it: so
        # many draws of one value have no density, and what is stretched must leave them alone.
        edge = self.levels * 2.0**-21
        noise = ((x * self.levels - pixels) - edge) / (1 - 2 * edge)
        moves = inside & (noise > 0) & (noise < 1)
        before = noise.clamp(_INNERMOST, 1 - _INNERMOST).logit()
        after, scales = way(before, 2 * pixels / (self.levels - 1) - 1, moves)
        moved = (pixels + edge + (1 - 2 * edge) * after.sigmoid()) / self.levels
        log_slopes = scales + _log_slope(after) - _log_slope(before)
        log_det = log_slopes.where(moves, torch.zeros_like(x)).flatten(1).sum(1)
        return FlowResult(moved.where(moves, x), log_det, {})

    def _there(self, y: Tensor, image: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(y)
        for step in range(len(self.nets)):
            log_scale, shift = self._step(step, y, image, moves)
            y, total = y * log_scale.exp() + shift, total + log_scale
        return y, total

    def _back(self, y: Tensor, image: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(y)
        for step in reversed(range(len(self.nets))):
            log_scale, shift = self._step(step, y, image, moves)
            y, total = (y - shift) * (-log_scale).exp(), total - log_scale
        return y, total

    def _step(self, step: int, y: Tensor, image: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Log scale and shift of a step, both 0 for the noise that it sees or that stays."""
        seen = self._seen(step)
        net, squashed = self.nets[step], torch.tanh(y / 4) * seen
        dtype = next(net.parameters()).dtype
        found = net(torch.cat([image, squashed], dim=1).to(dtype)).to(y.dtype)
        log_scale, shift = found.chunk(2, dim=1)
        moves = moves & ~seen
        return _MOST * torch.tanh(log_scale / _MOST) * moves, shift * moves

    def _seen(self, step: int) -> Tensor:
        """Which noise a step sees and leaves as it is: none, then the board's fields in turn."""
        if step == 0:
            return torch.zeros_like(self.board)
        return self.board if step % 2 else ~self.board

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a sample: the same.

        Raises:
            ValueError: if it is another than that of the images.
        """
        if tuple(shape) != self.event_shape:
            raise ValueError(
                f"the dequantization is of images of shape {self.event_shape}, not {tuple(shape)}."
            )
        return self.event_shape

    def extra_repr(self) -> str:
        """Show what a pixel can be."""
        return f"levels={self.levels}"


def dequantization_of(model: nn.Module) -> str:
    """Return how a model's pixels are dequantized, in a word.

    Example:
        >>> dequantization_of(nn.Identity())
        'uniform'
        >>> dequantization_of(VariationalDequantization((1, 2, 2), levels=2))
        'variational'
    """
    learned = any(isinstance(part, VariationalDequantization) for part in model.modules())
    return "variational" if learned else "uniform"


def _image(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(
            f"variational dequantization takes images (channels, height, width), and a sample has "
            f"shape {tuple(shape)}."
        )
    return tuple(shape)


def _net(channels: int, width: int) -> nn.Sequential:
    """Three convolutions from image and noise to log scale and shift; at first both are 0."""
    last = nn.Conv2d(width, 2 * channels, kernel_size=3, padding=1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(
        nn.Conv2d(2 * channels, width, kernel_size=3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, width, kernel_size=3, padding=1),
        nn.SiLU(),
        last,
    )


def _log_slope(y: Tensor) -> Tensor:
    """Log σ'(y)."""
    return -F.softplus(y) - F.softplus(-y)
