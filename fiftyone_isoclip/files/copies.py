"""Byte-identical files, found by content and independent of any embedding."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fiftyone_isoclip.files.listing import file_size

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """The distinct contents of some files: for each, the rows that hold it, ascending."""

    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Contents:
        """Sort files by their bytes; the contents come in the order of their first rows."""
        copies = find_exact_copies(paths)
        copied = {row for rows in copies for row in rows}
        singles = ((row,) for row in range(len(paths)) if row not in copied)
        return cls(tuple(sorted([*map(tuple, copies), *singles])))

    @property
    def first_rows(self) -> list[int]:
        """One row for each content."""
        return [rows[0] for rows in self.rows]


def content_hash(path: str | Path) -> str:
    """The BLAKE2b hash (32 bytes, as hex) of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hash_bytes(file)


def hash_bytes(file: BinaryIO) -> str:
    """The BLAKE2b hash (32 bytes, as hex) of what is left to read of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def find_exact_copies(paths: Sequence[str]) -> list[list[int]]:
    """Sets of rows whose files hold the same bytes: two or more rows each, in ascending order.

    Only files of equal size are hashed; a file that cannot be read is a copy of nothing.
    """
    sizes = _partition(range(len(paths)), lambda row: str(file_size(paths[row])))
    copies = [_partition(rows, lambda row: content_hash(paths[row])) for rows in sizes]
    return sorted(rows for sets in copies for rows in sets)


def _partition(rows: Iterable[int], trait: Callable[[int], str]) -> list[list[int]]:
    sharing: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        try:
            sharing[trait(row)].append(row)
        except (OSError, ValueError):
            continue
    return [rows for rows in sharing.values() if len(rows) > 1]
