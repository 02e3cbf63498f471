"""Files that only grow, with a checksum a block: what is read is checked, and nothing more."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import StoreError

Bytes = npt.NDArray[np.uint8]

BLOCK = 2**20
"""Bytes under one checksum."""

REMEDY = "Delete the folder and compute these vectors again."

_seen: dict[Path, tuple[tuple[int, ...], set[tuple[int, int]]]] = {}


class DamagedStoreError(StoreError):
    """Stored vectors that are not what was written: there is nothing to keep of them."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is committed of a file: its name, so many bytes, and the CRC-32 of each of its blocks.

    Bytes behind them are those of a writer that was stopped; the next one writes over them.
    """

    name: str
    size: int = 0
    sums: tuple[int, ...] = ()

    def extended(self, chunk: bytes) -> FileRecord:
        """The record once this chunk has been written behind what is there."""
        view, size, sums = memoryview(chunk), self.size, list(self.sums)
        while view.nbytes:
            part = view[: BLOCK - size % BLOCK]
            if size % BLOCK == 0:
                sums.append(0)
            sums[-1] = zlib.crc32(part, sums[-1])
            size, view = size + part.nbytes, view[part.nbytes :]
        return FileRecord(self.name, size, tuple(sums))


class _Handle:
    """A file that stays open, and readable once it has no name any more, until nobody needs it."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


@dataclass(frozen=True, eq=False, slots=True)
class BlockFile:
    """The committed bytes of a file that is open.

    They are read and never mapped: to look at the map of a file that somebody cut short, or that
    lies on a failing disk, ends the process.
    """

    path: Path
    record: FileRecord
    handle: _Handle

    def read(self, first: int = 0, last: int | None = None) -> Bytes:
        """The bytes from this block to that one, which is included (None: the end), checked.

        Raises:
            DamagedStoreError: if a block is not what was written.
            StoreError: if the disk gives none.
        """
        last = len(self.record.sums) - 1 if last is None else last
        content = self._content(first, last)
        if not self._is_sound(content, first, last):
            raise DamagedStoreError(
                f"{self.path} is damaged: its checksum is not the one it was written with. {REMEDY}"
            )
        return content

    def damaged(self) -> list[int]:
        """Which blocks are not what was written.

        Raises:
            StoreError: if the disk gives none.
        """
        blocks = range(len(self.record.sums))
        return [b for b in blocks if not self._is_sound(self._content(b, b), b, b)]

    def _content(self, first: int, last: int) -> Bytes:
        start, end = first * BLOCK, self._end(last)
        content = np.empty(max(0, end - start), np.uint8)
        filled = 0
        while filled < len(content):
            try:
                got = os.preadv(self.handle.number, [content[filled:].data], start + filled)
            except OSError as error:
                raise StoreError(f"{self.path} cannot be read: {error.strerror}.") from error
            if not got:  # cut short since it was opened
                break
            filled += got
        return content[:filled]

    def _end(self, last: int) -> int:
        return min((last + 1) * BLOCK, self.record.size)

    def _is_sound(self, content: Bytes, first: int, last: int) -> bool:
        """Whether these blocks are what was written.

        One is summed up once a process, unless something touches the file.
        """
        sound = self._sound()
        for block in range(first, last + 1):
            known = (block, self.record.sums[block])
            part = content[(block - first) * BLOCK : (block - first + 1) * BLOCK]
            if part.nbytes != self._end(block) - block * BLOCK:
                return False
            if known not in sound:
                if zlib.crc32(part.data) != known[1]:
                    return False
                sound.add(known)
        return True

    def _sound(self) -> set[tuple[int, int]]:
        """The blocks found sound since something touched the file."""
        now = os.fstat(self.handle.number)
        state = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        # A later version of the file has another token in its name and takes this one's place.
        kind = self.path.with_name(self.path.name.partition("-")[0])
        known, sound = _seen.get(kind, (None, set()))
        if known != state:
            sound = set()
            _seen[kind] = (state, sound)
        return sound


def open_file(folder: Path, record: FileRecord) -> BlockFile:
    """Open what is committed of a file; nothing is checked but that it is there.

    Raises:
        FileNotFoundError: if the file is gone.
        DamagedStoreError: if it is shorter than what was committed.
    """
    path = folder / record.name
    handle = _Handle(path)
    size = os.fstat(handle.number).st_size
    if size < record.size:
        raise DamagedStoreError(
            f"{path} is damaged: it has {size:,} bytes and was written with {record.size:,}. "
            f"{REMEDY}"
        )
    return BlockFile(path, record, handle)
