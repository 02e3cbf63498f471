"""Small copies of pictures inside a page, as large as the page's limit allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from fiftyone_isoclip.encoder.images import decoded, opened, orientation_of, to_rgb
from fiftyone_isoclip.encoder.limits import ImageLimits
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.evaluation.report.plots import as_address

_SIDES = (200, 160, 128, 96, 64)
"""The longer side in pixels, tried from the left."""
_QUALITY = 82
_LEFT_OUT = "left out"


@dataclass(eq=False)
class Thumbnail:
    """A picture in a page: its ``source``, a ``data:`` address, or why there is none."""

    picture: Image.Image | None
    reason: str
    source: str = ""


class Thumbnails:
    """The pictures of a page; each is read once however often it is shown."""

    def __init__(self) -> None:
        self._places: Counter[Thumbnail] = Counter()
        self._of_path: dict[str, Thumbnail] = {}

    def of(self, picture: str | Path | Image.Image) -> Thumbnail:
        """What is shown of a picture in one more place; it is empty until `fit`."""
        if isinstance(picture, Image.Image):
            thumbnail = Thumbnail(_shrunk(to_rgb(picture), _SIDES[0]), "")
        else:
            path = str(picture)
            thumbnail = self._of_path.get(path) or _read(path)
            self._of_path[path] = thumbnail
        self._places[thumbnail] += 1
        return thumbnail

    def fit(self, most_bytes: int) -> list[str]:
        """Fill the places with the largest pictures that fit, and say what was given up for it."""
        for side in _SIDES:
            n_bytes = self._fill(side)
            if n_bytes <= most_bytes:
                break
        told = []
        if side < _SIDES[0]:
            told.append(f"Pictures are at most {side} pixels wide or high, to keep this page small")
        if left := self._empty_the_last(most_bytes):
            told.append(f"{left:,} pictures were left out, to keep this page small")
        return told

    def _fill(self, side: int) -> int:
        """Encode every picture at a size -> the bytes that takes in the page."""
        for thumbnail in self._places:
            if thumbnail.picture is not None:
                drawn = BytesIO()
                _shrunk(thumbnail.picture, side).save(drawn, "JPEG", quality=_QUALITY)
                thumbnail.source = as_address(drawn.getvalue(), "jpeg")
        return sum(len(shown.source) * n for shown, n in self._places.items())

    def _empty_the_last(self, most_bytes: int) -> int:
        """Take away what goes beyond the limit -> how many places stay empty for that."""
        used, left = len(_LEFT_OUT) * self._places.total(), 0
        for shown, n in self._places.items():
            used += len(shown.source) * n
            if used > most_bytes and shown.source:
                shown.source, shown.reason = "", _LEFT_OUT
                left += n
        return left


def _read(path: str) -> Thumbnail:
    try:
        with opened(path, ImageLimits.from_environment()) as image:
            # A JPEG that is much larger than shown is decoded at a fraction of its size.
            image.draft("RGB", (2 * _SIDES[0], 2 * _SIDES[0]))
            picture = decoded(image, ImageLimits.from_environment())
            if orientation_of(image) != 1:
                picture = ImageOps.exif_transpose(picture)
            return Thumbnail(_shrunk(to_rgb(picture), _SIDES[0]), "")
    except ImageError as error:
        return Thumbnail(None, str(error))


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    small = picture.copy()
    small.thumbnail((side, side))
    return small
