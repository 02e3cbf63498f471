"""Vectors on disk: written so that a kill leaves the old state or the new, read with checksums.

A folder holds one file of vectors and one of their ids, which only grow, the bits of the rows
removed since, and a manifest that says how much of them is committed. A writer writes behind what
is committed or into new files, waits until it is on the disk, and puts a new manifest in the place
of the old one: a reader sees the one state or the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.blocks import DamagedStoreError, FileRecord, open_file
from fiftyone_isoclip.index.commits import commit, new_file, write_file, writing
from fiftyone_isoclip.index.manifest import MANIFEST, Manifest, read_manifest
from fiftyone_isoclip.index.stored import (
    Floats,
    Ids,
    StoredVectors,
    dead_rows,
    encode_ids,
    open_state,
    read_store,
)
from fiftyone_isoclip.index.vectors import checked_table, row_blocks

__all__ = [
    "DamagedStoreError",
    "StoredVectors",
    "append_store",
    "mend_store",
    "open_sound",
    "read_store",
    "remove_rows",
    "write_store",
]

COMPACT_SHARE = 0.25
"""The files are written anew once more than this share of their rows was removed."""

_ROWS_AT_ONCE = 4096


def write_store(
    folder: str | os.PathLike[str],
    vectors: npt.ArrayLike,
    ids: Sequence[str],
    *,
    fingerprint: str,
    band: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Replace what a folder stores, all at once: (n, d) vectors with n ids.

    float16 is stored as it is, everything else as float32.

    Raises:
        VectorError: if a row has no direction.
        StoreError: if the ids do not fit the vectors, another process is writing here, or the
            folder cannot be written (with the bytes needed and free); the old content stays.
    """
    table, names = _checked_rows(vectors, ids)
    place = Path(folder)
    with writing(place, table.nbytes):
        _write_anew(place, _blank(table, names, fingerprint, band, details), [(names, table)])


def append_store(
    folder: str | os.PathLike[str], vectors: npt.ArrayLike, ids: Sequence[str], *, fingerprint: str
) -> None:
    """Add (n, d) vectors with n ids behind what a folder stores; nothing stored is written again.

    A folder without a store gets one. An id may be there already: which row counts then is the
    reader's business.

    Raises:
        VectorError: if a row has no direction.
        StoreError: as `write_store`, and if the vectors stored are of another checkpoint or dim,
            or what is stored last is damaged.
    """
    table, names = _checked_rows(vectors, ids)
    place = Path(folder)
    with writing(place, table.nbytes):
        if not (place / MANIFEST).exists():
            _write_anew(place, _blank(table, names, fingerprint), [(names, table)])
            return
        manifest = read_manifest(place)
        if (manifest.fingerprint, manifest.dim) != (fingerprint, table.shape[1]):
            raise StoreError(
                f"{place} holds vectors of {manifest.dim} numbers of checkpoint "
                f"{manifest.fingerprint}, and {table.shape[1]} numbers of {fingerprint} were to be "
                "added; write a store of its own, or delete the folder"
            )
        if table.dtype.name != manifest.dtype:
            with np.errstate(over="ignore"):
                table = checked_table(table.astype(manifest.dtype))
        if names.dtype.itemsize > manifest.id_bytes:
            stored = open_state(place, manifest)
            wider = replace(manifest, id_bytes=names.dtype.itemsize)
            manifest = _write_anew(place, wider, stored.in_blocks(_ROWS_AT_ONCE))
        for record in (manifest.vectors, manifest.ids):
            if record.sums:
                open_file(place, record).read(len(record.sums) - 1)
        commit(place, _extended(place, manifest, [(names, table)]))


def remove_rows(folder: str | os.PathLike[str], stored: StoredVectors, rows: npt.ArrayLike) -> None:
    """Remove these rows of what was opened; what is stored is written anew when many are gone.

    Nothing happens if the files were written anew since.

    Raises:
        StoreError: if another process is writing here, the folder cannot be written, or what is
            stored is damaged.
    """
    place = Path(folder)
    with writing(place, 0):
        manifest = read_manifest(place)
        if manifest.vectors.name != stored.manifest.vectors.name:
            return
        dead = dead_rows(place, manifest)
        dead[stored.places[np.asarray(rows, np.int64)]] = True
        bits = write_file(place, new_file("dead"), [np.packbits(dead).tobytes()])
        marked = replace(manifest, dead=bits)
        if np.count_nonzero(dead) > COMPACT_SHARE * len(dead):
            left = open_state(place, marked)
            _write_anew(place, replace(manifest, dead=None), left.in_blocks(_ROWS_AT_ONCE))
        else:
            commit(place, marked)


def open_sound(folder: str | os.PathLike[str], fingerprint: str, dim: int) -> StoredVectors | None:
    """Open what a folder stores to add to it, without what is damaged or of another kind.

    None if nothing is left, or there never was a store.

    Raises:
        StoreError: if another process is writing here, or the folder cannot be read or written.
    """
    place = Path(folder)
    if not (place / MANIFEST).exists():
        return None
    with contextlib.suppress(DamagedStoreError):
        mend_store(place)
        stored = read_store(place)
        if (stored.fingerprint, stored.dim) == (fingerprint, dim):
            return stored
    with writing(place, 0):
        os.unlink(place / MANIFEST)  # noqa: PTH108
    return None


def mend_store(folder: str | os.PathLike[str]) -> int:
    """Check every vector that a folder stores and leave out what is damaged; -> how many rows.

    Raises:
        DamagedStoreError: if its manifest or ids are damaged.
        StoreError: if there is no store, another process is writing here, or the folder cannot
            be written.
    """
    place = Path(folder)
    if not len(read_store(place).damaged_rows()):
        return 0
    with writing(place, 0):
        manifest = read_manifest(place)
        stored = open_state(place, manifest)
        lost = stored.damaged_rows()
        sound = np.setdiff1d(np.arange(len(stored.ids)), lost)
        kept = replace(stored, ids=stored.ids[sound], places=stored.places[sound])
        _write_anew(place, manifest, kept.in_blocks(_ROWS_AT_ONCE))
    return len(lost)


def _checked_rows(vectors: npt.ArrayLike, ids: Sequence[str]) -> tuple[Floats, Ids]:
    table = checked_table(vectors)
    if table.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # what overflows is named below
            table = checked_table(table.astype(np.float32))
    if len(ids) != len(table):
        raise StoreError(f"{len(table)} vectors came with {len(ids)} ids; give one id a vector.")
    return table, encode_ids(ids)


def _blank(
    table: Floats,
    names: Ids,
    fingerprint: str,
    band: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Manifest:
    """The manifest of a store for such rows that has none yet."""
    return Manifest(
        count=0,
        dim=table.shape[1],
        dtype=table.dtype.name,
        id_bytes=names.dtype.itemsize,
        fingerprint=fingerprint,
        band=band,
        details=dict(details or {}),
        vectors=FileRecord(""),
        ids=FileRecord(""),
    )


def _write_anew(place: Path, manifest: Manifest, blocks: Iterable[tuple[Ids, Floats]]) -> Manifest:
    """Write ids and vectors into new files that take the place of those there are."""
    empty = replace(manifest, count=0, vectors=new_file("vectors"), ids=new_file("ids"), dead=None)
    return commit(place, _extended(place, empty, blocks))


def _extended(place: Path, manifest: Manifest, blocks: Iterable[tuple[Ids, Floats]]) -> Manifest:
    """Write ids and vectors behind what is committed; -> the manifest that would commit them."""
    added: list[Ids] = []

    def rows() -> Iterator[bytes]:
        for names, table in blocks:
            added.append(names.astype(f"S{manifest.id_bytes}"))
            for block in row_blocks(*table.shape):
                yield table[block].tobytes()

    vectors = write_file(place, manifest.vectors, rows())
    ids = write_file(place, manifest.ids, [names.tobytes() for names in added])
    count = manifest.count + sum(len(names) for names in added)
    return replace(manifest, count=count, vectors=vectors, ids=ids)
