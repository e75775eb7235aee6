"""From integer pixels to points of the unit cube, where a density can be learned, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.data.errors import DataError


@dataclass(frozen=True)
class UniformDequantization:
    """Spreads each pixel uniformly over its bin: u = (pixel + U[0, 1)) / levels, in float32.

    Args:
        levels: How many values a pixel can take, counted from 0.

    >>> dequantize = UniformDequantization(levels=17)
    >>> pixels = torch.tensor([0, 8, 16], dtype=torch.uint8)
    >>> u = dequantize(pixels)
    >>> bool((u < 1).all()), dequantize.requantize(u)
    (True, tensor([ 0,  8, 16]))
    """

    levels: int

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise DataError(f"levels = {self.levels} leaves nothing to model: write 2 or more.")

    def __call__(
        self,
        pixels: Tensor,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """A uniform draw from each pixel's bin.

        Args:
            pixels: Integers in [0, levels), of any shape.
            generator: Where the noise comes from, on the pixels' device; None: torch's own.
            noise: What `draw` has drawn already, like the pixels; None: it is drawn here.
        """
        _check_integers(pixels)
        noise = self.draw(pixels, generator) if noise is None else noise
        # Float32 rounds 255 + 0.99999997 up to 256 and (49 · 1/49) down below 1: noise that stays
        # this far from the bin's edges stays in the bin, whatever is rounded on the way.
        margin = self.levels * 2.0**-22
        return (pixels + noise.clamp(margin, 1 - margin)) / self.levels

    def draw(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise for pixels of this shape, U[0, 1) in float32."""
        return torch.rand(
            pixels.shape, generator=generator, device=pixels.device, dtype=torch.float32
        )

    def bin_centre(self, pixels: Tensor) -> Tensor:
        """The middle of each pixel's bin, (pixel + ½) / levels.

        >>> UniformDequantization(2).bin_centre(torch.tensor([0, 1]))
        tensor([0.2500, 0.7500])
        """
        _check_integers(pixels)
        return (pixels.to(torch.float32) + 0.5) / self.levels

    def requantize(self, u: Tensor) -> Tensor:
        """The pixels whose bins hold these values (int64); values outside [0, 1) go to the ends.

        >>> UniformDequantization(4).requantize(torch.tensor([-0.1, 0.3, 1.0]))
        tensor([0, 1, 3])
        """
        return (u * self.levels).floor().clamp(0, self.levels - 1).to(torch.int64)


def _check_integers(pixels: Tensor) -> None:
    if pixels.is_floating_point():
        raise DataError(
            f"Pixels are integers, and {pixels.dtype} was given: continuous data is not "
            f"dequantized, and images go in as uint8."
        )
