"""JPEG to 8-bit pixels, whole or at a fraction of its size, for the price of that fraction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

Pixels = npt.NDArray[np.uint8]

SCALES = (8, 4, 2)
"""By how much a side can be divided while decoding; other fractions are slower than the whole."""


def decode_jpeg(image: JpegImageFile, scale: int = 1) -> Pixels | None:
    """Decode an opened JPEG: (h / scale, w / scale, 3), the same values as Pillow's.

    Pillow needs half as long again, most of it for a detour over four bytes a pixel. ``scale``
    is 1 or one of ``SCALES`` and divides both sides.

    None for CMYK, and for what cannot be decoded without a complaint: that is left to Pillow.
    """
    if image.mode not in ("RGB", "L") or image.fp is None:
        return None
    image.fp.seek(0)
    data = image.fp.read()
    width, height = image.size
    try:
        if simplejpeg.decode_jpeg_header(data)[:2] != (height, width):
            return None  # beware: another size than the one that was checked
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, min_height=height // scale, min_width=width // scale
        )
    except ValueError:
        return None
    return pixels
