"""Where the bytes of a picture come from: a file of this machine, or one that is fetched."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Protocol

from fiftyone_isoclip.encoder.directories import check_directory
from fiftyone_isoclip.encoder.limits import ImageLimits
from fiftyone_isoclip.errors import ImageError


class Elsewhere(Protocol):
    """A file that no path of this machine names."""

    def fetch(self, check_bytes: Callable[[int], None]) -> bytes:
        """All of it, once the check was told how many bytes that will be.

        Raises:
            ImageError: there is no such file, it is refused, or the check refuses it.
            IsoClipError: nothing answers, so nothing is known of the file.
        """


Source = str | Path | Elsewhere


@contextmanager
def open_file(source: Source, limits: ImageLimits) -> Iterator[IO[bytes]]:
    """Open a file that is within the limits, to be read and sought in.

    Raises:
        OSError: it cannot be opened.
        ImageError: it is no regular file, or is refused for its size or its directory.
        IsoClipError: as `Elsewhere.fetch`.
    """
    opened = _own(source, limits) if isinstance(source, str | Path) else _fetched(source, limits)
    with opened as (file, n_bytes):
        check_directory(file, n_bytes)
        yield file


@contextmanager
def _fetched(source: Elsewhere, limits: ImageLimits) -> Iterator[tuple[IO[bytes], int]]:
    content = source.fetch(limits.check_bytes)
    # In memory until somebody asks for a file that another process can read.
    with SpooledTemporaryFile(max_size=len(content)) as file:
        file.write(content)
        yield file, len(content)


@contextmanager
def _own(path: str | Path, limits: ImageLimits) -> Iterator[tuple[IO[bytes], int]]:
    # Asked before, because to open a device can set it going, and afterwards of what was opened.
    _require_regular(Path(path).stat(), limits)
    with open(path, "rb", opener=_open_without_waiting) as file:
        found = os.fstat(file.fileno())
        _require_regular(found, limits)
        yield file, found.st_size


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe that took the file's place would be waited for without end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_regular(found: os.stat_result, limits: ImageLimits) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ImageError("a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file")
    limits.check_bytes(found.st_size)
