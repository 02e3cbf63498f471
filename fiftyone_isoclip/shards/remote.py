"""Images on other filesystems, by their URIs: which there are, and the bytes of one."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from pyarrow import fs

from fiftyone_isoclip.errors import ImageError, IsoClipError
from fiftyone_isoclip.files.listing import IMAGE_SUFFIXES
from fiftyone_isoclip.shards.place import in_a_line, locate, read_all

PAUSES = (1.0, 5.0)
"""Seconds before a file is asked for again; most filesystems try again by themselves as well."""


class RemoteImage:
    """An image file on another filesystem; what ``encoder.origins`` calls elsewhere.

    ``size`` is the number of its bytes when it was fetched, None before.
    """

    def __init__(self, uri: str) -> None:
        self.size: int | None = None
        self._uri = uri
        self._filesystem, self._path = locate(uri)

    def fetch(self, check_bytes: Callable[[int], None]) -> bytes:
        """All of the file, once the check was told its size.

        That there is no such file is the file's own fault. A filesystem that is away, too busy, or
        keeps the content to itself may do otherwise tomorrow: that is no reason to put this file
        down as failed, least of all the million behind it.

        Raises:
            ImageError: there is no such file, or the check refuses it.
            IsoClipError: the filesystem does not answer, or does not give all of the content.
        """
        return self._fetch(check_bytes, PAUSES)

    def _fetch(self, check_bytes: Callable[[int], None], pauses: Sequence[float]) -> bytes:
        try:
            return self._read(check_bytes)
        except (IsoClipError, MemoryError):
            raise
        except Exception as error:  # each filesystem has errors of its own
            self._require_there()
            if not pauses:
                raise self._unknown("read", error) from error
        time.sleep(pauses[0])
        return self._fetch(check_bytes, pauses[1:])

    def _read(self, check_bytes: Callable[[int], None]) -> bytes:
        with self._filesystem.open_input_file(self._path) as file:
            self.size = file.size()
            check_bytes(self.size)
            return read_all(file)

    def _require_there(self) -> None:
        try:
            (found,) = self._filesystem.get_file_info([self._path])
        except Exception as error:
            raise self._unknown("asked for", error) from error
        if found.type == fs.FileType.NotFound:
            raise ImageError(os.strerror(errno.ENOENT).lower())
        if found.type == fs.FileType.Directory:
            raise ImageError("a folder")

    def _unknown(self, done: str, error: Exception) -> IsoClipError:
        return IsoClipError(
            f"{self._uri} cannot be {done}: {in_a_line(error)}; neither it nor the images of its "
            "shard were put down as failed. Run the same again once its filesystem gives it, which "
            "goes on from there, or leave that image out"
        )


def list_remote(uri: str) -> list[str]:
    """The URIs of the images below a folder, known by their suffix, or of one image.

    Names that begin with a dot are left out, as in folders of this machine.

    Raises:
        IsoClipError: nothing is there, it is something else, or it cannot be listed.
    """
    uri = uri.rstrip("/") + "/"
    filesystem, folder = locate(uri)
    below = None
    try:
        (found,) = filesystem.get_file_info([folder.rstrip("/")])
        if found.type == fs.FileType.Directory:
            below = filesystem.get_file_info(fs.FileSelector(folder.rstrip("/"), recursive=True))
    except Exception as error:
        raise IsoClipError(f"{uri} cannot be listed: {in_a_line(error)}") from error
    if below is None:
        return [_one(uri.rstrip("/"), found)]
    files = [each.path.removeprefix(folder) for each in below if each.type == fs.FileType.File]
    return [uri + name for name in files if _is_image(name)]


def _one(uri: str, found: fs.FileInfo) -> str:
    if found.type == fs.FileType.File and _is_image(PurePosixPath(found.path).name):
        return uri
    what = "does not exist" if found.type == fs.FileType.NotFound else "is no image by its suffix"
    raise IsoClipError(
        f"{uri} {what}; give the URI of a folder, an image or a .parquet file, without settings "
        "behind a question mark: those of its filesystem are taken from the environment"
    )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES
