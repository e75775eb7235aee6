"""Pictures put together pixel by pixel: grids of images, each under its title, side by side."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

_GAP = 3
_MARGIN = 12
_TEXT_SIZE = 15
# A wide panel has a large title, which is legible where the picture is shown smaller.
_TEXT_IN_WIDTH = 16
_WHITE = 255
_PAPER, _INK = "white", "black"
# Panels go on in a new row beyond this width, so that a picture fits a page.
_WIDEST = 2400


def enlarged(shades: Tensor, side: int) -> Tensor:
    """Return images at least ``side`` pixels wide, each pixel repeated a whole number of times.

    Example:
        >>> import torch
        >>> enlarged(torch.zeros(1, 1, 8, 8), side=30).shape
        torch.Size([1, 1, 32, 32])
    """
    times = max(1, math.ceil(side / shades.shape[-1]))
    return shades.repeat_interleave(times, -1).repeat_interleave(times, -2)


def grid(shades: Tensor, columns: int, side: int) -> Image.Image:
    """Return images as a grid, row by row.

    Args:
        shades: Images between 0 and 1, ``(count, channels, height, width)``.
        columns: Images in a row.
        side: Images narrower than this are enlarged by whole factors.

    Raises:
        ValueError: if the images have neither one channel nor three.
    """
    if shades.shape[1] not in (1, 3):
        raise ValueError(
            f"images of {shades.shape[1]} channels cannot be shown; a picture has 1 or 3."
        )
    pixels = (enlarged(shades, side) * 255).round().to(torch.uint8)
    return to_pil_image(make_grid(pixels, nrow=columns, padding=_GAP, pad_value=_WHITE))


def titled(picture: Image.Image, title: str) -> Image.Image:
    """Return a picture with a title of one line or more above it, in the middle."""
    lines, size = title.split("\n"), max(_TEXT_SIZE, picture.width // _TEXT_IN_WIDTH)
    font, line_height = ImageFont.load_default(size), math.ceil(1.27 * size)
    width = max(picture.width, *(math.ceil(font.getlength(line)) for line in lines))
    top = line_height * len(lines) + _GAP
    canvas = Image.new("RGB", (width, top + picture.height), _PAPER)
    canvas.paste(picture, ((width - picture.width) // 2, top))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((width / 2, line_height * number), line, _INK, font, anchor="ma")
    return canvas


def in_rows(pictures: Sequence[Image.Image], gap: int = _MARGIN) -> Image.Image:
    """Return pictures of one size side by side, in as many rows as they need, on white."""
    width, height = (max(getattr(p, side) for p in pictures) for side in ("width", "height"))
    most = max(1, (_WIDEST - 2 * _MARGIN + gap) // (width + gap))
    rows = math.ceil(len(pictures) / most)
    columns = math.ceil(len(pictures) / rows)
    size = (
        2 * _MARGIN + columns * (width + gap) - gap,
        2 * _MARGIN + rows * (height + _MARGIN) - _MARGIN,
    )
    canvas = Image.new("RGB", size, _PAPER)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        canvas.paste(
            picture, (_MARGIN + column * (width + gap), _MARGIN + row * (height + _MARGIN))
        )
    return canvas
