"""From a file nobody vouches for to an upright RGB picture, or to a short reason why not."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fiftyone_isoclip.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "JPEG2000")
"""What is decoded; formats that call other programs or hold documents are not."""

MAX_BYTES = 512 * 2**20
MAX_PIXELS = 89_478_485
"""Pillow's own guard against decompression bombs: at most 256 MB of RGB a picture."""
MAX_ASPECT = 100.0
"""Longer to shorter side: a resize to a shorter side of 224 makes at most 5 million pixels."""

Box = tuple[float, float, float, float]
"""Left, top, width, height, each as a share of the upright picture, 0 to 1."""

_ORIENTATION = 0x0112
_WIDE = 65_535


def read_image(path: str | Path, box: Box | None = None) -> Image.Image:
    """Read one picture as upright RGB: frame 0, transparent parts on white, 16 bits scaled to 8.

    Size, pixels and aspect ratio are checked before anything is decoded. CMYK, palettes and
    1-bit pictures are converted by Pillow; floats are taken as 0 to 1 and integers as 0 to 65535,
    or scaled from their lowest to their highest value if they leave that range. ``box`` crops the
    upright picture.

    Raises:
        ImageError: not a regular file, not a picture, damaged, or too large; the message is a
            short reason without the path.
    """
    with opened(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image) if orientation_of(image) != 1 else image
        picture = to_rgb(upright)
        return picture if box is None else picture.crop(corners_of(box, *picture.size))


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture whose file and size are within the limits; nothing is decoded yet.

    Raises:
        ImageError: the file is refused, or anything went wrong inside the block.
    """
    try:
        _require_plain_file(path)
        with Image.open(path, formats=FORMATS) as image:
            require_size(*image.size)
            yield image
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError("not a picture in a known format, or its beginning is damaged") from error
    except Exception as error:
        raise ImageError(_reason(error, path)) from error


def _require_plain_file(path: str | Path) -> None:
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        # Opening a pipe would wait for a writer for ever.
        raise ImageError("a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file")
    if found.st_size == 0:
        raise ImageError("the file is empty")
    if found.st_size > MAX_BYTES:
        raise ImageError(f"the file has more than {MAX_BYTES // 2**20} MB")


def require_size(width: int, height: int) -> None:
    """Refuse a picture, or a part of one, that would cost too much memory.

    Raises:
        ImageError: too many pixels, none, or one side too long for the other.
    """
    if width < 1 or height < 1:
        raise ImageError("the picture has no pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{width} x {height}: one side is over {MAX_ASPECT:.0f} times the other")


def orientation_of(image: Image.Image) -> int:
    """How the camera was held, as EXIF counts: 1 upright to 8."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, OverflowError):
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
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrowed(image: Image.Image) -> Image.Image:
    """One channel of more than 8 bits -> 8 bits. Pillow's own conversion would clip to white."""
    values = np.asarray(image).astype(np.float64)
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise ImageError("the picture holds NaN or infinity")
    full = 1.0 if image.mode == "F" else float(_WIDE)
    if lowest >= 0 and highest <= full:
        lowest, highest = 0.0, full
    scaled = (values - lowest) * (255 / ((highest - lowest) or 1.0))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def corners_of(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box in an upright picture: left, top, right, bottom; at least one each way.

    Raises:
        ImageError: the box has no area, lies outside, or is too long for its width.
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
    require_size(x1 - x0, y1 - y0)
    return x0, y0, x1, y1


def _reason(error: Exception, path: str | Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    told = (str(error).splitlines() or [type(error).__name__])[0]
    return f"cannot be decoded: {told.replace(str(path), 'the file')[:120]}"
