"""One picture file: decoded upright, with the depth it was saved in; or refused by its path."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.regular import check_regular, shown

# What has fixed shades. Others have none (FITS), or are drawn by a program of their own (EPS).
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF",
            "WEBP")  # fmt: skip

_EIGHT_BITS = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
_WITH_ALPHA = {"La": "LA", "LA": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")

_REFUSED = {
    "I": "32-bit or signed whole numbers, whose black and white it does not say: save it with 16 "
    "bits or 8, scaled to all of their range",
    "F": "floats, whose black and white it does not say: save it with 16 bits or 8, scaled to all "
    "of their range",
    "LAB": "colours in LAB, which is more than a screen shows: convert it to RGB with its profile",
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: Its pixels, upright: 8-bit in a mode that Pillow converts to `L` and `RGB`; grey of
            more bits as floats, in mode `F`.
        levels: How many values a pixel can take.
        alpha: How opaque each pixel is, from 0 to 255, in mode `L`; None where all are wholly so.
    """

    image: Image.Image
    levels: int = 256
    alpha: Image.Image | None = None

    def in_8_bits(self) -> Image.Image:
        """The pixels with 256 levels, deeper ones cut to the level that they fall into."""
        if self.levels <= 256:
            return self.image
        pixels = np.asarray(self.image) * np.float32(256 / self.levels)
        return Image.fromarray(np.floor(pixels).astype(np.uint8))


def read_picture(path: str | Path) -> Picture:
    """The picture in a file, read whole.

    Raises:
        DataError: The file is no picture, is damaged, or has pixels of no known range.
    """
    check_regular(path, "a picture")
    try:
        with Image.open(path, formats=_formats()) as image:
            _check_single(path, image)
            _check_colours(path, image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _with_depth(path, image)
    except DataError:
        raise
    except Exception as error:  # what Pillow raises depends on where the damage is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{shown(path)} is not a picture that can be read ({reason}): remove or replace it."
        ) from error


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_single(path: str | Path, image: Image.Image) -> None:
    # Phones save previews and depths behind the picture, as an MPO.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(
            f"{shown(path)} has {frames} pictures in one file, and a sample is one: save the one "
            f"that you mean as a file of its own."
        )


def _check_colours(path: str | Path, image: Image.Image) -> None:
    """Refuse colours of a PPM that Pillow would round to 8 bits: all else is cut to its level."""
    if image.format != "PPM" or image.mode != "RGB":
        return
    arguments = image.tile[0][3]  # type: ignore[index]
    deepest = arguments[-1] if isinstance(arguments, tuple) else 255
    if isinstance(deepest, int) and deepest > 255:
        raise DataError(
            f"{shown(path)} has colours of {deepest + 1:,} levels in a PPM: save it as a PNG, of "
            f"16 bits or 8."
        )


def _with_depth(path: str | Path, image: Image.Image) -> Picture:
    if image.mode in _SIXTEEN_BITS:
        return _deep(image, _bits_of(image))
    if image.mode == "I" and image.format == "PPM":
        return _deep(image, bits=16)  # Pillow scales what is deeper than 8 bits to 16
    if image.mode in _WITH_ALPHA or image.has_transparency_data:
        return _with_alpha(image)
    if image.mode in _EIGHT_BITS:
        return Picture(image.copy())  # the file's own is closed with it
    what = _REFUSED.get(image.mode, f"pixels of the kind {image.mode}: save it as grey or RGB")
    raise DataError(f"{shown(path)} has {what}.")


def _deep(image: Image.Image, bits: int) -> Picture:
    pixels = np.asarray(image).astype(np.float32)  # which holds whole numbers up to 2**24
    hidden = image.info.get("transparency")
    alpha = None if hidden is None else np.where(pixels == hidden, 0, 255)
    if _tiff_tag(image, PHOTOMETRIC_INTERPRETATION, 1) == 0:  # white is 0; 8 bits Pillow turns
        pixels = 2**bits - 1 - pixels
    return Picture(
        Image.fromarray(pixels),
        2**bits,
        None if alpha is None or alpha.all() else Image.fromarray(alpha.astype(np.uint8)),
    )


def _bits_of(image: Image.Image) -> int:
    bits = _tiff_tag(image, BITSPERSAMPLE, (16,))
    return bits[0] if isinstance(bits, tuple) else bits


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def _with_alpha(image: Image.Image) -> Picture:
    full = image.convert(_WITH_ALPHA.get(image.mode, "RGBA"))
    alpha = full.getchannel("A")
    lowest, _ = alpha.getextrema()
    pixels = full.convert("L" if full.mode == "LA" else "RGB")
    return Picture(pixels, alpha=None if lowest == 255 else alpha)
