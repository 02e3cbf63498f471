"""From a file nobody vouches for to an upright RGB picture, or to a short reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from fiftyone_isoclip.encoder.apart import APART, decode_apart
from fiftyone_isoclip.encoder.limits import ImageLimits
from fiftyone_isoclip.encoder.origins import Source, open_file
from fiftyone_isoclip.errors import ImageError, IsoClipError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "JPEG2000")
"""What is decoded; formats that call other programs or hold documents are not."""

Box = tuple[float, float, float, float]
"""Left, top, width, height, each as a share of the upright picture, 0 to 1."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WIDE = 65_535
_STRIP = 2**20
"""Pixels of more than 8 bits that are narrowed at a time, in float64."""


def read_image(
    path: Source, box: Box | None = None, limits: ImageLimits | None = None
) -> Image.Image:
    """Read one picture as upright RGB: frame 0, transparent parts on white, 16 bits scaled to 8.

    The limits (``ImageLimits``) are checked before anything is decoded. CMYK, palettes and 1-bit
    pictures are converted by Pillow; floats are taken as 0 to 1 and integers as 0 to 65535, or
    scaled from their lowest to their highest value if they leave that range. Colour profiles and
    gamma are ignored, as CLIP's own training ignored them. ``box`` crops the upright picture.

    Raises:
        ImageError: not a regular file, not a picture, damaged, or too large; the message is a
            short reason without the path.
        IsoClipError: a limit is set to what is none.
    """
    limits = limits or ImageLimits.from_environment()
    with opened(path, limits) as image:
        picture = to_rgb(decoded(image, limits))
        turn = _TURNS.get(orientation_of(image))
        if turn is not None:
            picture = picture.transpose(turn)
        if box is None:
            return picture
        corners = corners_of(box, *picture.size)
        limits.check_size(corners[2] - corners[0], corners[3] - corners[1])
        return picture.crop(corners)


@contextmanager
def opened(path: Source, limits: ImageLimits) -> Iterator[ImageFile.ImageFile]:
    """Open a picture that is within the limits; nothing is decoded yet.

    Raises:
        ImageError: the file is refused, or anything went wrong inside the block.
    """
    with header(path, limits) as image:
        limits.check_size(*image.size)
        if isinstance(image, JpegImageFile) and image.fp is not None:
            image.fp.seek(0)
            limits.check_scans(_scans(image.fp.read(), limits.jpeg_scans))
        yield image


@contextmanager
def header(path: Source, limits: ImageLimits | None = None) -> Iterator[ImageFile.ImageFile]:
    """Open a picture of any size to look at its size and notes, not to decode it.

    Raises:
        ImageError: it is no regular file of a format that is read, or anything went wrong inside
            the block.
        IsoClipError: a limit is set to what is none, or where the file lies nothing answers.
    """
    limits = limits or ImageLimits.from_environment()
    try:
        with open_file(path, limits) as file, _identified(file, limits) as image:
            yield image
    except IsoClipError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"more than {limits.pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError("not a picture in a known format, or its beginning is damaged") from error
    except Exception as error:
        raise ImageError(_reason(error)) from error


def _identified(file: IO[bytes], limits: ImageLimits) -> ImageFile.ImageFile:
    if Image.MAX_IMAGE_PIXELS is not None:
        # Pillow's own guard would refuse what a setting allows.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limits.pixels)
    return Image.open(file, formats=FORMATS)


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
_END, _SCAN = 0xD9, 0xDA


def _scans(jpeg: bytes, most: int) -> int:
    """Count the scans of a JPEG, or stop after too many.

    Thumbnails in its notes and what follows its end do not count.
    """
    if jpeg.count(b"\xff\xda") <= most:
        return 0
    place, scans = 2, 0
    while scans <= most and (found := _MARKER.search(jpeg, place)):
        kind, place = jpeg[found.end() - 1], found.end()
        if kind == _END:
            break
        scans += kind == _SCAN
        place += int.from_bytes(jpeg[place : place + 2], "big")
    return scans


def decoded(image: ImageFile.ImageFile, limits: ImageLimits) -> Image.Image:
    """Decode an opened picture as it is stored, frame 0, in whatever mode it has."""
    if image.format in APART and image.fp is not None:
        return decode_apart(image.fp, image, limits.seconds)
    image.load()
    return image


def orientation_of(image: Image.Image) -> int:
    """How the camera was held, as EXIF counts: 1 upright to 8."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # Damaged notes beside a whole picture: take the picture as it lies.
        return 1
    return int(found) if found in range(1, 9) else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB; one in RGB is returned as it is.

    Raises:
        ImageError: it holds numbers that are not finite.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _narrowed(image).convert("RGB")
    if image.has_transparency_data:
        picture = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrowed(image: Image.Image) -> Image.Image:
    """One channel of more than 8 bits -> 8 bits. Pillow's own conversion would clip to white."""
    values = np.asarray(image)
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise ImageError("the picture holds NaN or infinity")
    full = 1.0 if image.mode == "F" else float(_WIDE)
    if lowest >= 0 and highest <= full:
        lowest, highest = 0.0, full
    narrow = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = values[top : top + rows].astype(np.float64) - lowest
        narrow[top : top + rows] = np.rint(strip * (255 / ((highest - lowest) or 1.0)))
    return Image.fromarray(narrow)


def corners_of(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box in an upright picture: left, top, right, bottom; at least one each way.

    Raises:
        ImageError: the box has no area or lies outside.
    """
    left, top, across, down = box
    if not np.isfinite(box).all() or across <= 0 or down <= 0:
        raise ImageError(f"the box {box} has no area")
    ends = (left, top, left + across, top + down)
    shares = [min(max(end, 0.0), 1.0) for end in ends]
    if shares[0] >= shares[2] or shares[1] >= shares[3]:
        raise ImageError(f"the box {box} lies outside the picture")
    x0, y0 = min(int(shares[0] * width), width - 1), min(int(shares[1] * height), height - 1)
    x1, y1 = max(round(shares[2] * width), x0 + 1), max(round(shares[3] * height), y0 + 1)
    return x0, y0, x1, y1


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    told = (str(error).splitlines() or [type(error).__name__])[0]
    return f"cannot be decoded: {told[:120]}"
