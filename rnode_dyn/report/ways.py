"""Pictures of what else a trained flow can do: ways between samples, and halves drawn anew."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Event, Splits
from rnode_dyn.flows.inpainting import inpaint
from rnode_dyn.flows.interpolation import between_latents
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.seeding import seeded
from rnode_dyn.recipe.build import load_splits
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.given import conditions_at, entered, one_each
from rnode_dyn.report.sampling import Drawing
from rnode_dyn.report.strip import Frame, save_strip

Half = Literal["left", "right", "top", "bottom"]

_COLUMNS = 10
_DRAWN = 4
_BLANK = 0.5


@dataclass(frozen=True)
class Ways(Drawing):
    """Rows of images on the way from one sample to another, through the latent space."""

    prefix: ClassVar[str] = "ways"

    def draw(
        self, recipe: Recipe, model: MultiscaleFlow, event: Event, seed: int, path: Path
    ) -> list[str]:
        """Draw a row for each pair of samples."""
        like = first_weight(model)
        noise = torch.randn(
            2, self.count, event.dims, generator=torch.Generator().manual_seed(seed)
        )
        z = self.temperatures[0] * noise.to(like)
        given = one_each(model, event, self.count, self._as_tensor)
        found = between_latents(model, z[0], z[1], _COLUMNS, given).cpu()
        titles = ["one sample", *[""] * (_COLUMNS - 2), "another"]
        save_strip([Frame(t, found[:, k]) for k, t in enumerate(titles)], event, path)
        return []


@dataclass(frozen=True)
class Halves(Drawing):
    """Test images of which one half is drawn anew, several times, given the other.

    Attributes:
        half: The half that is drawn.
    """

    prefix: ClassVar[str] = "halves"
    half: Half = "right"

    @property
    def file_name(self) -> str:
        """A name that tells one drawing from another."""
        return f"{self.prefix}-{self.count}-{self._given}{self.half}{self.suffixes[0]}"

    def draw(
        self, recipe: Recipe, model: MultiscaleFlow, event: Event, seed: int, path: Path
    ) -> list[str]:
        """Draw a row for each of the first test images."""
        splits = load_splits(recipe)
        pixels = splits.test.head(self.count)
        like = first_weight(model)
        known = ~in_half(event.shape, self.half)
        with seeded(like.device, seed):
            u = UniformDequantization(event.levels or 256)(pixels).to(like)
            given = self._conditions(model, splits, len(u))
            drawn = [inpaint(model, u, known, condition=given).cpu() for _ in range(_DRAWN)]
        seen = torch.where(known, u.cpu(), torch.tensor(_BLANK))
        frames = [Frame("data", u.cpu()), Frame("given", seen)]
        save_strip([*frames, *(Frame("drawn", x) for x in drawn)], event, path)
        return []

    def _conditions(self, model: MultiscaleFlow, splits: Splits, count: int) -> Tensor | None:
        """The condition that was asked for, or each image's own."""
        if self._as_tensor is not None:
            return conditions_at(model, splits.event, count, self._as_tensor)
        own = splits.conditions_of(splits.test)
        return None if own is None else entered(model, own[:count])


def in_half(shape: tuple[int, ...], half: Half) -> Tensor:
    """Return which pixels of images (channels, height, width) lie in a half of them.

    Example:
        >>> in_half((1, 1, 4), "right")
        tensor([[[False, False,  True,  True]]])
    """
    axis = -1 if half in ("left", "right") else -2
    side = shape[axis]
    place = torch.arange(side)
    later = place >= side // 2
    chosen = later if half in ("right", "bottom") else ~later
    return (chosen if axis == -1 else chosen[:, None]).expand(shape)
