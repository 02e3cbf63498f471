"""Stored vectors read back: each block is checked before a row of it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.blocks import BLOCK, REMEDY, BlockFile, DamagedStoreError, open_file
from fiftyone_isoclip.index.manifest import Manifest, read_manifest

Floats = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.bytes_]
Rows = npt.NDArray[np.int64]

_RETRIES = 5

_BLOCKS_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """What a store held when it was opened; later writers change nothing in it.

    Attributes:
        manifest: what is committed.
        ids: (n,) the id of each row that was not removed, as `encode_ids` writes it.
        places: (n,) where these rows lie among all rows of the file.
        file: all rows; `read` is the way in, because it checks them.
    """

    manifest: Manifest
    ids: Ids
    places: Rows
    file: BlockFile

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.manifest.dim

    @property
    def fingerprint(self) -> str:
        """The checkpoint that made the vectors."""
        return self.manifest.fingerprint

    @property
    def band(self) -> str | None:
        """The band they were projected to, or None for plain ones."""
        return self.manifest.band

    @property
    def details(self) -> Mapping[str, Any]:
        """Whatever else the writer noted."""
        return self.manifest.details

    @cached_property
    def names(self) -> list[str]:
        """The ids as text."""
        return [id_.decode("utf-8", "surrogatepass") for id_ in self.ids.tolist()]

    def read(self, rows: npt.ArrayLike | None = None) -> Floats:
        """The vectors of these rows (None: all) after checking them: (m, d), read-only.

        Raises:
            DamagedStoreError: if a block that holds one of them is damaged, naming the file.
            StoreError: if the disk does not give them.
        """
        places = self.places if rows is None else self.places[np.asarray(rows, np.int64)]
        if len(places) and (np.diff(places) == 1).all():
            found = self._rows_in(*self._block_range(places[[0, -1]]), places[0])[: len(places)]
        else:
            found = self._gathered(places)
        found.flags.writeable = False
        return found

    def _gathered(self, places: Rows) -> Floats:
        """Rows from anywhere, read in the order of the file."""
        found = np.empty((len(places), self.dim), self.manifest.dtype)
        order = np.argsort(places, kind="stable")
        first, last = self._block_range(places[order])
        for start, end in _windows(first, last):
            chosen = order[start:end]
            window = slice(start, end)
            lowest = places[chosen[0]]
            table = self._rows_in(first[window], last[window], lowest)
            found[chosen] = table[places[chosen] - lowest]
        return found

    def _rows_in(self, first: Rows, last: Rows, place: int) -> Floats:
        """All rows from one place on that lie whole in the blocks from the first to the last."""
        width = self.dim * np.dtype(self.manifest.dtype).itemsize
        content = self.file.read(int(first[0]), int(last[-1]))
        skipped = place * width - int(first[0]) * BLOCK
        count = (len(content) - skipped) // width
        numbers = np.frombuffer(content, self.manifest.dtype, count * self.dim, skipped)
        return numbers.reshape(count, self.dim)

    def in_blocks(self, size: int) -> Iterator[tuple[Ids, Floats]]:
        """Ids and vectors of so many rows at a time, each block checked when it is reached."""
        for start in range(0, len(self.ids), size):
            block = slice(start, start + size)
            yield self.ids[block], self.read(np.arange(len(self.ids))[block])

    def damaged_rows(self) -> Rows:
        """The rows that cannot be read, after checking every block: (m,)."""
        before = np.zeros(len(self.file.record.sums) + 1, np.int64)
        before[np.array(self.file.damaged(), np.int64) + 1] = 1
        before = np.cumsum(before)
        first, last = self._block_range(self.places)
        return np.flatnonzero(before[last + 1] > before[first])

    def _block_range(self, places: Rows) -> tuple[Rows, Rows]:
        """The first and the last block in which each of these rows lies."""
        width = self.dim * np.dtype(self.manifest.dtype).itemsize
        return places * width // BLOCK, ((places + 1) * width - 1) // BLOCK


def read_store(
    folder: str | os.PathLike[str], *, expected_fingerprint: str | None = None
) -> StoredVectors:
    """Open what a folder stores; vectors stay on disk and are checked when they are read.

    Args:
        folder: as given to `write_store`.
        expected_fingerprint: of the checkpoint whose vectors are wanted; any if None.

    Raises:
        StoreError: if there is no store, it is damaged, or it came from another checkpoint; the
            message names the file and what to do.
    """
    place = Path(folder)
    for _ in range(_RETRIES):
        manifest = read_manifest(place)
        try:
            stored = open_state(place, manifest)
            break
        except FileNotFoundError as error:
            # A writer may have finished between the manifest and its files: then there is another.
            if read_manifest(place) == manifest:
                raise DamagedStoreError(f"{error.filename} is missing. {REMEDY}") from error
        except OSError as error:
            raise StoreError(f"{error.filename} cannot be read: {error.strerror}.") from error
    else:
        raise StoreError(f"{place} kept changing while it was read; try again.")
    if expected_fingerprint not in (None, stored.fingerprint):
        raise StoreError(
            f"{place} holds vectors of checkpoint {stored.fingerprint} and those of "
            f"{expected_fingerprint} were asked for. Compute these vectors again, or name the "
            "checkpoint that made them."
        )
    return stored


def open_state(folder: Path, manifest: Manifest) -> StoredVectors:
    """Open the files of one state.

    Raises:
        FileNotFoundError: if a file is gone.
        DamagedStoreError: if the ids or the marks of removed rows are damaged.
    """
    ids = np.frombuffer(open_file(folder, manifest.ids).read(), f"S{manifest.id_bytes}")
    places = np.flatnonzero(~dead_rows(folder, manifest))
    chosen = ids if len(places) == len(ids) else ids[places]
    return StoredVectors(manifest, chosen, places, open_file(folder, manifest.vectors))


def dead_rows(folder: Path, manifest: Manifest) -> npt.NDArray[np.bool_]:
    """Which rows were removed: (count,).

    Raises:
        FileNotFoundError: if their file is gone.
        DamagedStoreError: if it is damaged.
    """
    dead = np.zeros(manifest.count, np.bool_)
    if manifest.dead is not None:
        bits = np.frombuffer(open_file(folder, manifest.dead).read(), np.uint8)
        known = np.unpackbits(bits, count=min(8 * len(bits), manifest.count)).astype(np.bool_)
        dead[: len(known)] = known  # rows written since are alive
    return dead


def _windows(first: Rows, last: Rows) -> Iterator[tuple[int, int]]:
    """Cut rows in the order of the file, in these blocks, into parts that lie close together."""
    start = 0
    while start < len(first):
        reach = int(np.searchsorted(first, first[start] + _BLOCKS_AT_ONCE))
        gaps = np.flatnonzero(first[start + 1 : reach] > last[start : reach - 1] + 1)
        end = start + 1 + int(gaps[0]) if len(gaps) else reach
        yield start, end
        start = end


def encode_ids(ids: Sequence[str]) -> Ids:
    """Ids as a store keeps them: (n,) bytes of one width.

    Raises:
        StoreError: if one is no text, or ends in a NUL character.
    """
    if not all(isinstance(name, str) for name in ids):
        raise StoreError("Ids must be text; convert them with str.")
    coded = [name.encode("utf-8", "surrogatepass") for name in ids]
    if any(name.endswith(b"\0") for name in coded):
        raise StoreError("Ids must not end in a NUL character; give other names.")
    return np.array(coded, np.bytes_) if coded else np.empty(0, "S1")
