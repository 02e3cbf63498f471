"""From an image file to the 8-bit pixels that a tower takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from fiftyone_isoclip.encoder.fitting import Fit, OwnTransform
from fiftyone_isoclip.encoder.images import (
    Box,
    corners_of,
    decoded,
    opened,
    orientation_of,
    to_rgb,
)
from fiftyone_isoclip.encoder.jpeg import SCALES, Pixels, decode_jpeg
from fiftyone_isoclip.encoder.limits import ImageLimits
from fiftyone_isoclip.encoder.origins import Source
from fiftyone_isoclip.errors import ImageError, IsoClipError

DECODINGS = ("exact", "fast")
DEFAULT_DECODING = "exact"
"""``exact`` decodes every pixel; ``fast`` decodes a JPEG that is far larger than needed at a half,
a quarter or an eighth of its size.

Cosines to embeddings of open_clip's own pixels: 1 - 1e-6 and better where every pixel is decoded,
1 - 1e-5 for photographs where they are not, and worse for pictures made of fine texture.
"""

ROOM = 6.0
"""How much larger than its target a picture decoded at a smaller size still has to be.

From here on the difference is little more than rounding to 8 bits; with 4 it is twice that.
"""

_LYING = 5
"""From this orientation of EXIF's 1 to 8 on, rows are to be seen as columns."""


@dataclass(frozen=True)
class PixelReader:
    """Reads files and pictures as a tower takes them; picklable, for workers in processes.

    ``fit`` makes them the tower's size. Where it is None open_clip's ``own`` transform does that,
    and what comes out is normalised float32 instead of uint8. ``limits`` are the environment's.

    Raises:
        IsoClipError: the decoding is neither "fast" nor "exact", or a limit is set to what is none.
    """

    fit: Fit | None
    own: OwnTransform
    decoding: str = DEFAULT_DECODING
    limits: ImageLimits = field(default_factory=ImageLimits.from_environment)

    def __post_init__(self) -> None:
        if self.decoding not in DECODINGS:
            raise IsoClipError(
                f"decoding {self.decoding!r} was asked for; choose {' or '.join(DECODINGS)}"
            )

    def read(self, path: Source, boxes: Sequence[Box | None] = (None,)) -> list[Tensor | str]:
        """Read the parts of a picture, decoded once: n boxes -> n tensors (3, h, w), or reasons.

        Every limit and conversion of ``read_image`` holds. A box of None is the whole picture.

        Raises:
            IsoClipError: nothing answers where the picture lies, which says nothing against it.
        """
        whole = all(box is None for box in boxes)
        try:
            with opened(path, self.limits) as image:
                if whole:
                    self.check_size(*image.size)
                scaled = self.decoding == "fast" and whole
                stored, orientation = self._decoded(image, scaled=scaled), orientation_of(image)
        except ImageError as error:
            return [str(error)] * len(boxes)
        return [self._part(stored, orientation, box) for box in boxes]

    def check_size(self, width: int, height: int) -> None:
        """Refuse a picture for its own size, or for the one to which it would be resized.

        Raises:
            ImageError: it is too large, too long or without pixels.
        """
        self.limits.check_size(width, height)
        if self.fit is not None:
            self.limits.check_resized(*reversed(self.fit.resized(height, width)))

    def __call__(self, pixels: Pixels) -> Tensor:
        """An upright picture (h, w, 3) -> (3, h, w)."""
        if self.fit is None:
            return self.own(Image.fromarray(pixels))
        return self.fit(torch.from_numpy(pixels))

    def _part(self, stored: Pixels, orientation: int, box: Box | None) -> Tensor | str:
        upright = turned(stored, orientation)
        height, width = upright.shape[:2]
        try:
            if box is None:
                self.check_size(width, height)
                return self._whole(stored, orientation)
            left, top, right, bottom = corners_of(box, width, height)
            self.check_size(right - left, bottom - top)
        except ImageError as error:
            return str(error)
        return self(np.ascontiguousarray(upright[top:bottom, left:right]))

    def _whole(self, stored: Pixels, orientation: int) -> Tensor:
        """Resized first and turned afterwards, when it is small; the pixels are the same."""
        if self.fit is None or orientation == 1:
            return self(np.ascontiguousarray(turned(stored, orientation)))
        small = self.fit.resize(torch.from_numpy(stored), lying=orientation >= _LYING)
        upright = np.ascontiguousarray(turned(small.permute(1, 2, 0).numpy(), orientation))
        return self.fit.cut(torch.from_numpy(upright).permute(2, 0, 1))

    def _decoded(self, image: ImageFile, *, scaled: bool) -> Pixels:
        """Decode a picture as it is stored: (h, w, 3)."""
        if isinstance(image, JpegImageFile):
            pixels = decode_jpeg(image, self._scale(image) if scaled else 1)
            if pixels is not None:
                return pixels
        return np.array(to_rgb(decoded(image, self.limits)))

    def _scale(self, image: Image.Image) -> int:
        """By how much both sides may be divided without a remainder and with room to spare."""
        if self.fit is None:
            return 1
        width, height = image.size
        lying = orientation_of(image) >= _LYING
        down, across = (width, height) if lying else (height, width)
        target = self.fit.resized(down, across)
        most = min(down / target[0], across / target[1]) / ROOM
        # With a remainder the last column would be stretched over the edge, and the rest shift.
        fits = (s for s in SCALES if s <= most and width % s == 0 and height % s == 0)
        return next(fits, 1)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """A view of stored pixels (h, w, c) as they are to be seen, by EXIF's orientation of 1 to 8."""
    if orientation >= _LYING:
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::down, ::across]
