"""One picture file: read upright and with its own depth, or refused by its path in a sentence."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnode_dyn.data import DataError, load_data
from rnode_dyn.data.decoding import read_picture
from tests.data.files import write_pictures

RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
GREY = RGB.convert("L")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes = bytes(1000)) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + body + chunk(b"IEND", b"")


def white_is_zero(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "TIFF", tiffinfo={262: 0})


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(RAMP), "PNG"),
        encoded(Image.fromarray(RAMP), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(">u2")), "TIFF"),
        b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes(),
        white_is_zero(65535 - RAMP),
    ],
    ids=["png", "tiff", "tiff, big-endian", "pgm", "tiff, white is 0"],
)
def test_grey_of_16_bits_keeps_its_shades(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(content)
    picture = read_picture(tmp_path / "deep.png")
    assert picture.levels == 65536
    assert np.array_equal(np.asarray(picture.image), RAMP)
    assert np.array_equal(np.asarray(picture.in_8_bits()), RAMP >> 8)


@pytest.mark.parametrize("levels", [256, 32, 2])
def test_deep_pictures_are_brought_to_the_levels_asked_for(levels: int, tmp_path: Path) -> None:
    for part in ("train", "validation", "test"):
        (tmp_path / part).mkdir()
        Image.fromarray(RAMP).save(tmp_path / part / "deep.png")
    splits = load_data("folder", root=tmp_path, channels=1, levels=levels)
    expected = RAMP.astype(np.int64) * levels // 65536
    assert torch.equal(splits.test[0][0].long(), torch.from_numpy(expected))


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_upright(turn: int, tmp_path: Path) -> None:
    """By what a camera notes; the corners tell."""
    exif = Image.Exif()
    exif[0x0112] = turn
    corners = Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8))
    corners.save(tmp_path / "turned.png", exif=exif)
    upright = np.asarray(read_picture(tmp_path / "turned.png").image)
    stored = np.asarray(corners)
    mirrored = stored[:, ::-1] if turn in (2, 4, 5, 7) else stored
    assert np.array_equal(
        upright, np.rot90(mirrored, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(turn, 0))
    )


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encoded(RGB.convert("RGBA"), "PNG"), "RGB"),
        (encoded(GREY.convert("LA"), "PNG"), "L"),
        (encoded(RGB.quantize(16), "PNG"), "P"),
        (encoded(RGB.quantize(16), "GIF"), "P"),
        (encoded(RGB.convert("1"), "PNG"), "1"),
        (encoded(RGB.convert("1"), "TIFF"), "1"),
        (encoded(RGB, "WEBP", lossless=True), "RGB"),
        (encoded(RGB.convert("CMYK"), "JPEG"), "CMYK"),
    ],
    ids=["opaque RGBA", "opaque LA", "palette", "still GIF", "1 bit", "1 bit TIFF", "WebP", "CMYK"],
)
def test_pixels_of_8_bits_are_what_they_show(content: bytes, mode: str, tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(content)
    picture = read_picture(tmp_path / "file.png")
    assert (picture.image.mode, picture.levels, picture.alpha) == (mode, 256, None)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(picture.image.convert("RGB"), image.convert("RGB"))


def translucent() -> Image.Image:
    image = RGB.convert("RGBA")
    image.putalpha(128)
    return image


BAD = {
    "alpha": (encoded(translucent(), "PNG"), "transparent pixels"),
    "palette, one clear": (encoded(RGB.quantize(16), "PNG", transparency=0), "transparent pixels"),
    "grey, one clear": (
        encoded(GREY, "PNG", transparency=int(GREY.getpixel((0, 0)))),
        "transparent",
    ),
    "16 bits, one clear": (encoded(Image.fromarray(RAMP), "PNG", transparency=0), "transparent"),
    "32 bits": (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "32-bit or signed whole"),
    "floats": (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "has floats, whose"),
    "LAB": (encoded(RGB.convert("LAB"), "TIFF"), "colours in LAB"),
    "animation": (
        encoded(RGB, "WEBP", save_all=True, append_images=[GREY.convert("RGB")]),
        "has 2 pictures in one file",
    ),
    "pages": (encoded(RGB, "TIFF", save_all=True, append_images=[RGB]), "has 2 pictures"),
    "deep colours": (b"P6 16 16 65535\n" + bytes(1536), "has colours of 65,536 levels in a PPM"),
    "bomb": (png(60_000, 60_000), "not a picture that can be read"),
    "long text": (
        png(64, 64, chunk(b"zTXt", b"c\0\0" + zlib.compress(b"a" * 3_000_000))),
        "not a picture that can be read",
    ),
    "cut header": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0\0\1"),
        "not a picture that can be read",
    ),
    "no width": (png(0, 4), "not a picture that can be read"),
    "cut": (encoded(RGB, "PNG")[:300], "not a picture that can be read"),
    "cut JPEG": (encoded(RGB, "JPEG")[:500], "not a picture that can be read"),
    "empty": (b"", "not a picture that can be read"),
    "text": (b"not a picture\n" * 50, "not a picture that can be read"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture that"),
}


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("image_size", [8, None])
def test_what_cannot_be_read_rightly_is_refused_by_its_path(
    content: bytes, reason: str, image_size: int | None, tmp_path: Path
) -> None:
    for part in ("train", "validation", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=f"bad.png .*{reason}") as refusal:
        load_data("folder", root=tmp_path, image_size=image_size)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def bound(path: Path) -> None:
    os.chdir(path.parent)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "is a pipe, and has the name of a picture: remove or rename it"),
        (Path.mkdir, "is a folder, and has the name of a picture"),
        (bound, "is a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nowhere, which is not there"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
    ids=["pipe", "folder", "socket", "device", "broken link", "circle"],
)
@pytest.mark.parametrize("image_size", [8, None])
def test_what_is_no_file_is_refused_and_not_waited_for(
    make: Callable[[Path], object],
    reason: str,
    image_size: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("train", "validation", "test"):
        (tmp_path / part).mkdir()
        make(tmp_path / part / "bad.png")
    with pytest.raises(DataError, match=f"bad.png .*{reason}"):
        load_data("folder", root=tmp_path, image_size=image_size)


def test_folders_that_are_links_are_looked_into_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "elsewhere", 4)
    for part in ("train", "test"):
        folder = tmp_path / part
        folder.mkdir()
        (folder / "a").symlink_to(tmp_path / "elsewhere" / "class0")
        (folder / "again").symlink_to(tmp_path / "elsewhere" / "class0")
        (folder / "b").symlink_to(tmp_path / "elsewhere" / "class1")
        (folder / "itself").symlink_to(folder)
        (folder / "above").symlink_to(tmp_path)
    splits = load_data("folder", root=tmp_path)
    assert len(splits.train) + len(splits.validation) == len(splits.test) == 4


def test_a_file_of_somebody_elses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("train", "test"):
        write_pictures(tmp_path / part, 2)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("0000.png"))
    with pytest.raises(
        DataError, match=r"0000\.png may not be read by this user: let it, or remove"
    ):
        load_data("folder", root=tmp_path)
