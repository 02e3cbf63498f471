"""Files that come with image sets, read with an error that says what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fiftyone_isoclip.evaluation.sets.retrieval_set import DamagedSetError
from fiftyone_isoclip.files.listing import reason_of


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DamagedSetError: it cannot be read, or holds none.
    """
    try:
        # Not splitlines(): a caption may hold a Unicode line separator.
        lines = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, reason_of(error)) from error
    held = [line for line in lines if line.strip()]
    if not held:
        raise damaged(path, "it is empty")
    return held


def read_columns(path: Path, n: int) -> Iterator[list[str]]:
    """The lines of a file cut into n columns at spaces; the last one keeps its own.

    Raises:
        DamagedSetError: the file cannot be read, or a line has fewer.
    """
    for number, line in enumerate(read_lines(path), 1):
        columns = line.strip().split(" ", n - 1)
        if len(columns) < n:
            raise damaged(path, f"line {number} has {len(columns)} columns and not {n}")
        yield columns


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DamagedSetError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, reason_of(error)) from error


def damaged(path: Path, why: str) -> DamagedSetError:
    """The error of a file that is not as it is published."""
    return DamagedSetError(f"{path} cannot be used: {why}; fetch it again")
