"""Files that only grow, with a checksum a block: what is read is checked, and nothing more."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fiftyone_isoclip.errors import StoreError

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


@dataclass(frozen=True, eq=False, slots=True)
class MappedFile:
    """The committed bytes of a file, mapped from disk, and the blocks of it found sound so far."""

    path: Path
    record: FileRecord
    content: memoryview
    sound: set[tuple[int, int]]

    def damaged(self, blocks: Iterable[int] | None = None) -> list[int]:
        """Which of these blocks (None: all) are not what was written.

        A block is read once a process, unless something touches the file and it is opened again.
        """
        bad = []
        for block in range(len(self.record.sums)) if blocks is None else blocks:
            known = (block, self.record.sums[block])
            if known in self.sound:
                continue
            if zlib.crc32(self.content[block * BLOCK : (block + 1) * BLOCK]) == known[1]:
                self.sound.add(known)
            else:
                bad.append(block)
        return bad

    def verify(self, blocks: Iterable[int] | None = None) -> memoryview:
        """Give the committed bytes after checking these blocks (None: all).

        Raises:
            DamagedStoreError: if a block is not what was written.
        """
        if self.damaged(blocks):
            raise DamagedStoreError(
                f"{self.path} is damaged: its checksum is not the one it was written with. {REMEDY}"
            )
        return self.content


def map_file(folder: Path, record: FileRecord) -> MappedFile:
    """Map what is committed of a file; nothing is checked but that it is there.

    Raises:
        FileNotFoundError: if the file is gone.
        DamagedStoreError: if it is shorter than what was committed.
    """
    path = folder / record.name
    with path.open("rb") as file:
        now = os.fstat(file.fileno())
        if now.st_size < record.size:
            raise DamagedStoreError(
                f"{path} is damaged: it has {now.st_size:,} bytes and was written with "
                f"{record.size:,}. {REMEDY}"
            )
        # Nothing cannot be mapped.
        content = (
            memoryview(mmap.mmap(file.fileno(), record.size, access=mmap.ACCESS_READ))
            if record.size
            else memoryview(b"")
        )
    state = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    # A later version of the file has another token in its name and takes this one's place.
    kind = folder / record.name.partition("-")[0]
    known, sound = _seen.get(kind, (None, set()))
    if known != state:
        sound = set()
        _seen[kind] = (state, sound)
    return MappedFile(path, record, content, sound)
