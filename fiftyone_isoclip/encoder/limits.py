"""What a picture may cost: settings with defaults, checked before anything is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

from fiftyone_isoclip.errors import ImageError, IsoClipError

_PREFIX = "FIFTYONE_ISOCLIP_MAX_"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The most that one picture may be; more is refused with a reason, and nothing is decoded.

    The environment variable of a limit is ``FIFTYONE_ISOCLIP_MAX_`` and its name in capitals:

    - ``file_bytes``, 512 MiB: a picture within the other limits stored without compression.
    - ``pixels``, 89,478,485: width times height, Pillow's own guard against decompression bombs.
      While it is decoded a picture takes 6 to 14 bytes a pixel, so up to 1.2 GB.
    - ``resized_pixels``, 16,777,216: what resizing to the tower's size makes before the middle is
      cut out, 50 MB of RGB. A strip of 20000 x 1 would otherwise take gigabytes.
    - ``aspect``, 100: the longer side divided by the shorter; nobody photographs such strips.
    - ``jpeg_scans``, 100: passes over all of a progressive JPEG, each of which may cost a few
      bytes in the file and milliseconds a million pixels. Cameras and optimisers write up to 20.
    - ``seconds``, 300: for a picture that is decoded in a process of its own (JPEG 2000); the
      largest that are allowed take up to 30 where nothing else runs.

    Raises:
        ImageError: by the checks, a short reason.
    """

    file_bytes: int = 512 * 2**20
    pixels: int = 89_478_485
    resized_pixels: int = 2**24
    aspect: float = 100.0
    jpeg_scans: int = 100
    seconds: float = 300.0

    @classmethod
    def from_environment(cls) -> ImageLimits:
        """The defaults, but for what environment variables say.

        Raises:
            IsoClipError: a variable is no number of 1 or more.
        """
        said = {field.name: os.environ.get(_PREFIX + field.name.upper()) for field in fields(cls)}
        defaults = cls()
        numbers: dict[str, Any] = {
            name: _number(name, text, getattr(defaults, name))
            for name, text in said.items()
            if text
        }
        return replace(defaults, **numbers)

    def check_bytes(self, found: int) -> None:
        """Refuse a file for its size."""
        if found == 0:
            raise ImageError("the file is empty")
        if found > self.file_bytes:
            raise ImageError(f"the file has more than {self.file_bytes:,} bytes")

    def check_size(self, width: int, height: int) -> None:
        """Refuse a picture, or a part of one, for its pixels or its shape."""
        if width < 1 or height < 1:
            raise ImageError("the picture has no pixels")
        if width * height > self.pixels:
            raise ImageError(f"{width} x {height} is more than {self.pixels:,} pixels")
        if max(width, height) > self.aspect * min(width, height):
            raise ImageError(
                f"{width} x {height}: one side is over {self.aspect:g} times the other"
            )

    def check_resized(self, width: int, height: int) -> None:
        """Refuse a picture for what it would be resized to."""
        if width * height > self.resized_pixels:
            raise ImageError(
                f"resized to {width} x {height} it has more than {self.resized_pixels:,} pixels"
            )

    def check_scans(self, found: int) -> None:
        """Refuse a JPEG for the number of its scans."""
        if found > self.jpeg_scans:
            raise ImageError(f"the JPEG has more than {self.jpeg_scans} scans")


def _number(name: str, text: str, default: int | float) -> int | float:
    try:
        number: int | float = type(default)(text)
    except ValueError:
        number = 0
    if not 1 <= number < inf:
        what = "a whole number" if isinstance(default, int) else "a number"
        raise IsoClipError(
            f"{_PREFIX}{name.upper()} is {text!r}, which is no limit; "
            f"give {what} of 1 or more, or unset it for the default of {default:,}"
        )
    return number
