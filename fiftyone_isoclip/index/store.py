"""Vectors on disk: written so that a kill leaves the old state or the new, read with checksums."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.manifest import MANIFEST, REMEDY, FileRecord, Manifest
from fiftyone_isoclip.index.vectors import checked_table, row_blocks

_LOCK = "writer.lock"
_OURS = re.compile(r"(vectors|ids|manifest)-[0-9a-f]{16}\.(npy|json)")
_RETRIES = 5
_O_BINARY: int = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, eq=False, slots=True)
class StoredVectors:
    """What a store held, every byte of it checked.

    Attributes:
        vectors: (n, d) float16 or float32 as written, mapped from disk and read-only.
        ids: (n,) the id of each row.
        fingerprint: of the checkpoint that made the vectors.
        band: the band they were projected to, or None for plain ones.
        details: whatever else the writer noted.
    """

    vectors: npt.NDArray[np.floating[Any]]
    ids: tuple[str, ...]
    fingerprint: str
    band: str | None
    details: Mapping[str, Any]


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

    New files get new names and reach the disk before the manifest that names them takes the old
    one's place; only then are the old files removed. A process killed at any moment leaves the old
    content or the new. float16 is stored as it is, everything else as float32.

    Raises:
        VectorError: if a row has no direction.
        StoreError: if the ids do not fit the vectors, another process is writing here, or the
            folder cannot be written (with the bytes needed and free); the old content stays.
    """
    table = checked_table(vectors)
    if table.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # what overflows is named below
            table = checked_table(table.astype(np.float32))
    if len(ids) != len(table):
        raise StoreError(f"{len(table)} vectors came with {len(ids)} ids; give one id a vector.")
    if not all(isinstance(name, str) for name in ids):
        raise StoreError("Ids must be text; convert them with str.")
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / _LOCK, timeout=0):
            origin = {"fingerprint": fingerprint, "band": band, "details": dict(details or {})}
            _replace(place, table, ids, origin)
    except Timeout as error:
        raise StoreError(
            f"Another process is writing to {place}; try again when it has ended "
            "(a killed process frees the folder)."
        ) from error
    except OSError as error:
        raise StoreError(_unwritable(place, table, error)) from error


def read_store(
    folder: str | os.PathLike[str], *, expected_fingerprint: str | None = None
) -> StoredVectors:
    """Read what a folder stores, mapping the vectors from disk after checking every byte.

    Args:
        folder: as given to `write_store`.
        expected_fingerprint: of the checkpoint whose vectors are wanted; any if None.

    Raises:
        StoreError: if there is no store, it is damaged, or it came from another checkpoint; the
            message names the file and what to do.
    """
    place = Path(folder)
    for _ in range(_RETRIES):
        manifest = _manifest(place)
        try:
            stored = _content(place, manifest)
            break
        except FileNotFoundError as error:
            # A writer may have finished between the manifest and its files: then there is another.
            if _manifest(place) == manifest:
                raise StoreError(f"{error.filename} is missing. {REMEDY}") from error
    else:
        raise StoreError(f"{place} kept changing while it was read; try again.")
    if expected_fingerprint not in (None, stored.fingerprint):
        raise StoreError(
            f"{place} holds vectors of checkpoint {stored.fingerprint} and those of "
            f"{expected_fingerprint} were asked for. Compute these vectors again, or name the "
            "checkpoint that made them."
        )
    return stored


def _replace(
    place: Path, table: npt.NDArray[Any], ids: Sequence[str], origin: Mapping[str, Any]
) -> None:
    token = secrets.token_hex(8)
    names = [f"vectors-{token}.npy", f"ids-{token}.json", f"manifest-{token}.json"]
    try:
        manifest = Manifest(
            count=table.shape[0],
            dim=table.shape[1],
            dtype=table.dtype.name,
            vectors=_write(place / names[0], _npy_chunks(table)),
            ids=_write(place / names[1], [json.dumps(list(ids)).encode("ascii")]),
            **origin,
        )
        _write(place / names[2], [manifest.dumps()])
        _sync_folder(place)
        os.replace(place / names[2], place / MANIFEST)  # noqa: PTH105
        _sync_folder(place)
    finally:
        _sweep(place)


def _sweep(place: Path) -> None:
    """Remove the files of former writers, and of this one where its manifest was never in place."""
    try:
        manifest = _manifest(place)
        kept = {manifest.vectors.name, manifest.ids.name}
    except StoreError:
        if (place / MANIFEST).exists():
            return
        kept = set()
    for path in list(place.iterdir()):
        if _OURS.fullmatch(path.name) and path.name not in kept:
            # Windows keeps a mapped file until its readers close it: a later write removes it.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.unlink(path)  # noqa: PTH108


def _npy_chunks(table: npt.NDArray[Any]) -> Iterator[bytes]:
    header = io.BytesIO()
    description = {"descr": table.dtype.str, "fortran_order": False, "shape": table.shape}
    np.lib.format.write_array_header_1_0(header, description)
    yield header.getvalue()
    for block in row_blocks(*table.shape):
        yield table[block].tobytes()


def _write(path: Path, chunks: Iterable[bytes]) -> FileRecord:
    digest, size = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
    try:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            while chunk:
                chunk = chunk[os.write(handle, chunk) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return FileRecord(path.name, size, digest.hexdigest())


def _sync_folder(place: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and orders renames by itself
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _manifest(place: Path) -> Manifest:
    path = place / MANIFEST
    try:
        return Manifest.loads(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise StoreError(f"{place} holds no stored vectors; compute them first.") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error


def _content(place: Path, manifest: Manifest) -> StoredVectors:
    try:
        ids = tuple(json.loads(manifest.ids.verify(place).read_bytes()))
        path = manifest.vectors.verify(place)
        shape = (manifest.count, manifest.dim)
        # An empty table cannot be mapped.
        vectors = np.load(path, mmap_mode="r" if manifest.count else None, allow_pickle=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if vectors.shape != shape or vectors.dtype.name != manifest.dtype or len(ids) != len(vectors):
        raise StoreError(f"{place} is damaged: its files do not fit its manifest. {REMEDY}")
    return StoredVectors(vectors, ids, manifest.fingerprint, manifest.band, manifest.details)


def _unwritable(place: Path, table: npt.NDArray[Any], error: OSError) -> str:
    there = next(folder for folder in [place, *place.parents] if folder.exists())
    return (
        f"{error.filename or place} cannot be written: {error.strerror}. The vectors need about "
        f"{table.nbytes:,} bytes and {shutil.disk_usage(there).free:,} are free; what was stored "
        "before is still there. Make room or choose another folder."
    )
