"""How sharp an image is, as one number that compares copies of the same picture."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from fiftyone_isoclip.encoder import read_image

_LONG_SIDE = 512
"""Pixels: a Laplacian depends on the scale, so every image is brought to one size first."""


def sharpness(path: str) -> float:
    """The variance of the Laplacian of an image's luminance, 0 or more; larger is sharper.

    Raises:
        ImageError: the image cannot be read.
    """
    grey = read_image(path).convert("L")
    scale = _LONG_SIDE / max(grey.size)
    size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
    pixels = np.asarray(grey.resize(size, Image.Resampling.BICUBIC), np.float32)
    return float(ndimage.laplace(pixels).var())
