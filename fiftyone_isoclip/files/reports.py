"""Results as files: written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.listing import IMAGE_SUFFIXES, reason_of


def as_json(value: Any) -> str:
    r"""JSON for any report; a name that is not valid UTF-8 stays exact as ``\udcNN`` escapes."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def list_failures(failed: Mapping[str, str]) -> list[dict[str, str]]:
    """Failures as every report holds them: a list of path and reason."""
    return [{"path": path, "reason": reason} for path, reason in failed.items()]


def write_json(path: str | Path, value: Any) -> None:
    """Write a report atomically.

    Raises:
        IsoClipError: the file cannot be written.
    """
    content = as_json(value).encode()
    write_atomically(path, lambda file: file.write(content), len(content))


def write_atomically(
    path: str | Path, write: Callable[[BinaryIO], object], needed_bytes: int
) -> None:
    """Let ``write`` fill a file that takes its place only once it is whole and on the disk.

    Raises:
        IsoClipError: the file cannot be written; the message tells bytes needed and free.
    """
    path = Path(path).resolve()  # a symlink keeps pointing to the file that is replaced
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing to replace
            with path.open("wb") as file:
                write(file)
        else:
            _replace(path, write)
    except OSError as error:
        raise IsoClipError(
            f"{path} cannot be written: {reason_of(error)}{_space(path.parent, needed_bytes)}"
        ) from error


def check_report(path: Path) -> None:
    """Find out before the work whether its numbers can be stored, and not over a picture.

    Raises:
        IsoClipError: it cannot be written, or has the name of a picture.
    """
    check_writable(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise IsoClipError(f"{path} has the name of a picture; name another file for the result")


def check_writable(path: Path) -> None:
    """Find out before the work whether its result can be stored.

    Raises:
        IsoClipError: the folder is not there or may not be written, or the path is a folder.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise IsoClipError(f"{path} cannot be written: the folder {folder} does not exist")
    if path.is_dir():
        raise IsoClipError(f"{path} cannot be written: it is a folder")
    if not os.access(folder if not path.exists() else path, os.W_OK):
        raise IsoClipError(f"{path} cannot be written: permission denied")


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    draft = path.with_name(f".isoclip-{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _space(folder: Path, needed_bytes: int) -> str:
    if not folder.is_dir():
        return ""
    free = shutil.disk_usage(folder).free
    return f" (needs {needed_bytes:,} bytes; {free:,} bytes are free)"
