"""How a folder of files changes: one writer at a time, and all at once by its manifest."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.blocks import FileRecord
from fiftyone_isoclip.index.manifest import MANIFEST, Manifest, read_manifest

PATIENCE_SECONDS = 30.0
"""How long a writer waits for another one to end."""

_LOCK = "writer.lock"
_OURS = re.compile(r"(vectors|ids|dead|manifest)-[0-9a-f]{16}\.(bin|npy|json)")
_O_BINARY: int = getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def writing(place: Path, n_bytes: int) -> Iterator[None]:
    """Be the one writer of a folder, about to write so many bytes.

    Raises:
        StoreError: if another process is writing here, or the disk refuses.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / _LOCK, timeout=PATIENCE_SECONDS):
            try:
                yield
            finally:
                _sweep(place)
    except Timeout as error:
        raise StoreError(
            f"Another process is writing to {place}; try again when it has ended "
            "(a killed process frees the folder)."
        ) from error
    except OSError as error:
        raise StoreError(_unwritable(place, n_bytes, error)) from error


def new_file(kind: str, ending: str = "bin") -> FileRecord:
    """Name a file that is not there yet."""
    return FileRecord(f"{kind}-{secrets.token_hex(8)}.{ending}")


def write_file(place: Path, record: FileRecord, chunks: Iterable[bytes]) -> FileRecord:
    """Write behind what is committed of a file (a new one if nothing is), down to the disk."""
    create = 0 if record.size else os.O_CREAT
    handle = os.open(place / record.name, os.O_WRONLY | create | _O_BINARY, 0o666)
    try:
        os.lseek(handle, record.size, os.SEEK_SET)
        for chunk in chunks:
            record = record.extended(chunk)
            while chunk:
                chunk = chunk[os.write(handle, chunk) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return record


def commit(place: Path, manifest: Manifest) -> Manifest:
    """Put a manifest, whose files are on the disk, in the place of the one there is."""
    staged = write_file(place, new_file("manifest", "json"), [manifest.dumps()])
    _sync_folder(place)
    os.replace(place / staged.name, place / MANIFEST)  # noqa: PTH105
    _sync_folder(place)
    return manifest


def _sweep(place: Path) -> None:
    """Remove the files of former writers, and of this one where its manifest was never in place."""
    try:
        kept = read_manifest(place).files
    except StoreError:
        if (place / MANIFEST).exists():
            return
        kept = set()
    for path in list(place.iterdir()):
        if _OURS.fullmatch(path.name) and path.name not in kept:
            # Windows keeps a mapped file until its readers close it: a later write removes it.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.unlink(path)  # noqa: PTH108


def _sync_folder(place: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and orders renames by itself
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(place: Path, n_bytes: int, error: OSError) -> str:
    there = next(folder for folder in [place, *place.parents] if folder.exists())
    return (
        f"{error.filename or place} cannot be written: {error.strerror}. The vectors need about "
        f"{n_bytes:,} bytes and {shutil.disk_usage(there).free:,} are free; what was stored "
        "before is still there. Make room or choose another folder."
    )
