"""Results as files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.listing import IMAGE_SUFFIXES
from fiftyone_isoclip.index.whole_files import write_whole


def as_json(value: Any) -> str:
    r"""JSON for any report; a name that is not valid UTF-8 stays exact as ``\udcNN`` escapes."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def list_failures(failed: Mapping[str, str]) -> list[dict[str, str]]:
    """Failures as every report holds them: a list of path and reason."""
    return [{"path": path, "reason": reason} for path, reason in failed.items()]


def write_json(path: str | Path, value: Any) -> None:
    """Write a report, whole or not at all.

    Raises:
        IsoClipError: the file cannot be written; the message tells bytes needed and free.
    """
    content = as_json(value).encode()
    write_whole(path, lambda file: file.write(content), len(content))


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
