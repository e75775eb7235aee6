"""A map from the unit cube to space that suits drawings, whose pixels are mostly black or white."""

import math

import torch
from torch import Tensor

from rnode_dyn.flows.normal_pieces import NormalPieces
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.transforms import Transform
from rnode_dyn.numerics.numbers import whole

_MARGIN = 1e-6
"""Of an end's share, what is kept away from infinity at the outside."""


class ThreeBells(Transform):
    """The dark end of the unit interval, the bright end, and the grey between become bell curves.

    Behind a logit the uniform noise within black is an exponential with a sharp edge, which a flow
    has to learn for every pixel of a background and never quite does. Here noise that is uniform
    over one of the three parts becomes a normal distribution, cut off where the next one begins:
    most of what there is to learn of it is known beforehand.

    Args:
        dark: Share of the unit interval that is the dark end, such as 1/256: black alone.
        bright: Share that is the bright end, such as 4/256: the four brightest of 256 levels.
        reach: Deviations, which are 1, from the middle of an end's bell to where grey begins.
        grey_deviation: Deviation of the bell in the middle, which is at 0.
        grey_reach: As many of these deviations it is wide to either side.

    Raises:
        ValueError: if an end has no share, nothing is left between them, or a length is not
            positive.

    Example:
        >>> import torch
        >>> bells = ThreeBells(dark=0.1, bright=0.3)
        >>> y, log_det, _ = bells(torch.tensor([[0.05, 0.1, 0.4, 0.7, 0.85]]))
        >>> y.round(decimals=2)
        tensor([[-5.8300, -3.2200,  0.0000,  3.2200,  5.8300]])
        >>> torch.allclose(bells.inverse(y).log_det, -log_det)
        True
    """

    def __init__(
        self,
        dark: float,
        bright: float,
        *,
        reach: float = 2.6,
        grey_deviation: float = 1.15,
        grey_reach: float = 2.8,
    ) -> None:
        super().__init__()
        if not (dark > 0 and bright > 0 and dark + bright < 1):
            raise ValueError(
                f"ThreeBells: dark is {dark!r} and bright {bright!r}; write shares above 0 that "
                "leave some of the interval between them, such as 1/256 and 4/256."
            )
        lengths = {"reach": reach, "grey_deviation": grey_deviation, "grey_reach": grey_reach}
        for name, length in lengths.items():
            if not 0 < length < math.inf:
                raise ValueError(f"ThreeBells: {name} is {length!r}; write a finite one above 0.")
        self.dark, self.bright, self.reach = dark, bright, reach
        self.grey_deviation, self.grey_reach = grey_deviation, grey_reach
        self._grey = 1 - dark - bright
        self._half = grey_deviation * grey_reach
        self._within_end, self._beyond_grey = _below(reach), _below(-grey_reach)

    def forward(self, x: Tensor) -> FlowResult:
        """Map the unit cube to space; what lies outside of it has no place there: NaN."""
        middle = self.reach + self._half
        dark = self._quantile_of_end(x / self.dark) - middle
        bright = middle - self._quantile_of_end((1 - x) / self.bright)
        share = ((x - self.dark) / self._grey).clamp(0, 1)
        grey = self._beyond_grey + (1 - 2 * self._beyond_grey) * share
        y = torch.special.ndtri(grey) * self.grey_deviation
        y = torch.where(x < self.dark, dark, torch.where(1 - x < self.bright, bright, y))
        return FlowResult(y, self._log_det(y), {})

    def inverse(self, z: Tensor) -> FlowResult:
        """Map space to the cube, and a little beyond where ``z`` is far out."""
        middle = self.reach + self._half
        dark = self._share_of_end(z + middle) * self.dark
        bright = 1 - self._share_of_end(middle - z) * self.bright
        inside = torch.special.ndtr(z / self.grey_deviation) - self._beyond_grey
        x = inside / (1 - 2 * self._beyond_grey) * self._grey + self.dark
        x = torch.where(z < -self._half, dark, torch.where(z > self._half, bright, x))
        return FlowResult(x, -self._log_det(z), {})

    def pieces(self, levels: int) -> NormalPieces:
        """Return what noise that is uniform within a level's bin becomes, an entry a level.

        Args:
            levels: Values that a pixel can take; both ends must be whole numbers of them.

        Raises:
            ValueError: if a bin lies across the border of an end.

        Example:
            >>> bells = ThreeBells(dark=1 / 4, bright=2 / 4)
            >>> bells.pieces(4).low.round(decimals=2)
            tensor([-10.5700,  -3.2200,   3.2200,   5.8300])
        """
        levels = whole("ThreeBells.pieces", "levels", levels)
        for name, share in (("dark", self.dark), ("bright", self.bright)):
            count = share * levels
            if round(count) < 1 or abs(count - round(count)) > 1e-6:
                raise ValueError(
                    f"ThreeBells: {name} is {share}, and {levels} levels have no border there; "
                    f"write a multiple of 1/{levels}."
                )
        edges = self(torch.linspace(0, 1, levels + 1, dtype=torch.float64)[None]).z[0]
        low, high = edges[:-1], edges[1:]
        # Both sides of a border are the same number but for its rounding.
        middle = (low + high) / 2
        end = middle.abs() > self._half
        centre = torch.where(end, middle.sign() * (self.reach + self._half), 0.0)
        deviation = torch.where(end, 1.0, self.grey_deviation)
        return NormalPieces(*(part.float() for part in (centre, deviation, low, high)))

    def _quantile_of_end(self, share: Tensor) -> Tensor:
        """Deviations from the middle of its bell, of a share of an end counted from outside."""
        inside = _MARGIN + (1 - _MARGIN) * share.clamp(0, 1)
        quantile = torch.special.ndtri(self._within_end * inside)
        return quantile.where(share > -2 * _MARGIN, math.nan)

    def _share_of_end(self, deviations: Tensor) -> Tensor:
        inside = torch.special.ndtr(deviations) / self._within_end
        return (inside - _MARGIN) / (1 - _MARGIN)

    def _log_det(self, y: Tensor) -> Tensor:
        """Log dy/dx: in each part its share of a bell over the bell's density, and over x's."""
        outside = (y.abs() - self._half).clamp_min(0)
        end = (outside - self.reach).square() / 2 + math.log(self._within_end * (1 - _MARGIN))
        share = torch.full_like(y, math.log(self.bright)).masked_fill(y < 0, math.log(self.dark))
        end = end - share
        grey = (y / self.grey_deviation).square() / 2 + math.log1p(-2 * self._beyond_grey)
        grey = grey + math.log(self.grey_deviation / self._grey)
        slopes = torch.where(outside > 0, end, grey) + math.log(2 * math.pi) / 2
        return slopes.flatten(1).sum(1)

    def extra_repr(self) -> str:
        """Show both ends."""
        return f"dark={self.dark}, bright={self.bright}"


def _below(deviations: float) -> float:
    """Φ: the share of a bell below so many deviations from its middle."""
    return 0.5 * math.erfc(-deviations / math.sqrt(2))
