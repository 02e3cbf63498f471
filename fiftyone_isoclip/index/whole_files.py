"""Files written whole or not at all: a draft takes a file's place once it is on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from fiftyone_isoclip.errors import StoreError

_DRAFT = re.compile(r"\.isoclip-[0-9a-f]{16}\.part")


def write_whole(
    path: str | Path,
    write: Callable[[BinaryIO], object],
    needed_bytes: int,
    *,
    make_folder: bool = False,
) -> None:
    """Let ``write`` fill a draft beside a file, and put it in the file's place.

    A process killed at any moment leaves the old content or the new; what else it leaves, the next
    write in the folder removes. A symlink keeps pointing to the file that is replaced, and what is
    no file (a pipe, /dev/stdout) is written to as it is.

    Raises:
        StoreError: it cannot be written; the message tells the bytes needed and free, and the old
            content stays.
    """
    path = Path(path).resolve()
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                write(file)
        else:
            replace_file(path, write)
    except OSError as error:
        raise StoreError(unwritable(path, needed_bytes, error)) from error


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Do what `write_whole` does to a regular file.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    _sweep(path.parent)
    draft, handle = _new_draft(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(handle)
            os.replace(draft, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)  # noqa: PTH108
        raise
    # The new content is in place: without this it may be the old one again after a power cut.
    with contextlib.suppress(OSError):
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, needed_bytes: int, error: OSError) -> str:
    """Say why a file cannot be written, with the bytes needed and free."""
    there = next(place for place in (path, *path.parents) if place.is_dir())
    return (
        f"{path} cannot be written: {error.strerror or error}. It needs about {needed_bytes:,} "
        f"bytes and {shutil.disk_usage(there).free:,} are free; what was stored before is still "
        "there. Make room or choose another folder."
    )


def _new_draft(folder: Path) -> tuple[Path, int]:
    """A new file, locked as long as it is open so that nobody takes it for a dead writer's."""
    while True:
        draft = folder / f".isoclip-{secrets.token_hex(8)}.part"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another writer is removing it at this moment
            os.close(handle)
            continue
        except OSError:  # a network drive without locks: nobody removes it there
            return draft, handle
        if os.fstat(handle).st_nlink:
            return draft, handle
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove the drafts of writers that were killed."""
    for path in list(folder.iterdir()):
        if not _DRAFT.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_WRONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)  # noqa: PTH108
            finally:
                os.close(handle)
