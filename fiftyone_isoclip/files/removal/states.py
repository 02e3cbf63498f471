"""What a file is at this moment, seen through one open handle that nobody can exchange."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

from fiftyone_isoclip.files.copies import hash_bytes

Identity = tuple[int, int]
"""Device and inode: what makes several names one file."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A regular file under its real path: which file it is, its size and the hash of its bytes."""

    path: str
    device: int
    inode: int
    n_bytes: int
    content: str

    @property
    def identity(self) -> Identity:
        """Which file it is, whatever its names are."""
        return self.device, self.inode

    @classmethod
    def of(cls, path: str) -> FileState:
        """Examine a file.

        Raises:
            OSError: it cannot be read, or is a link, a folder, a pipe or a device.
        """
        with open_regular(path) as file:
            return cls.read(path, file)

    @classmethod
    def read(cls, path: str, file: BinaryIO) -> FileState:
        """Examine a file that is open."""
        found = os.fstat(file.fileno())
        return cls(path, found.st_dev, found.st_ino, found.st_size, hash_bytes(file))


class ChangedError(Exception):
    """A file is no longer what a plan says of it; the message is a short reason."""


@contextmanager
def open_regular(path: str) -> Iterator[BinaryIO]:
    """Open a regular file for reading; links are not followed and pipes not waited for.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        yield file


@contextmanager
def hold(planned: FileState, *, shared: bool) -> Iterator[None]:
    """Keep a file that is exactly as planned from being judged by another process.

    Many may rely on a file that stays (``shared``), only one may take it away. The operating
    system frees what a killed process held.

    Raises:
        ChangedError: it is another file, was changed, or another process holds it.
    """
    try:
        with open_regular(planned.path) as file:
            lock(file, shared=shared)
            if os.path.realpath(planned.path) != planned.path:
                raise ChangedError("a folder in its path has become a link")
            if FileState.read(planned.path, file) != planned:
                raise ChangedError("it was changed or replaced since the plan was made")
            if not shared and os.fstat(file.fileno()).st_nlink > 1:
                raise ChangedError(HARD_LINKED)
            yield
    except BlockingIOError as error:
        raise ChangedError("another process is applying a plan to it") from error
    except OSError as error:
        raise ChangedError(why(error)) from error


def lock(file: IO[bytes], *, shared: bool = False) -> None:
    """Lock an open file until it is closed.

    Raises:
        BlockingIOError: another process holds it.
    """
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


HARD_LINKED = "the file has further names (hard links), so it is no copy and removing frees nothing"


def why(error: OSError) -> str:
    """An operating system's error as a short reason."""
    if error.errno == errno.ELOOP:
        return "it is a link; the file it leads to has a name of its own"
    return (error.strerror or str(error)).lower()
