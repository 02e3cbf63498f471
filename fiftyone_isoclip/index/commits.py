"""How a folder of files changes: one writer at a time, and all at once by its manifest."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.blocks import FileRecord
from fiftyone_isoclip.index.manifest import MANIFEST, OURS, Manifest, read_manifest
from fiftyone_isoclip.index.whole_files import replace_file, sync_folder, unwritable

PATIENCE_SECONDS = 30.0
"""How long a writer waits for another one to end."""

_LOCK = "writer.lock"


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
        raise StoreError(unwritable(Path(error.filename or place), n_bytes, error)) from error


def new_file(kind: str) -> FileRecord:
    """Name a file that is not there yet."""
    return FileRecord(f"{kind}-{secrets.token_hex(8)}.bin")


def write_file(place: Path, record: FileRecord, chunks: Iterable[bytes]) -> FileRecord:
    """Write behind what is committed of a file (a new one if nothing is), down to the disk."""
    create = 0 if record.size else os.O_CREAT
    handle = os.open(place / record.name, os.O_WRONLY | create, 0o666)
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
    sync_folder(place)
    content = manifest.dumps()
    replace_file(place / MANIFEST, lambda file: file.write(content))
    return manifest


def _sweep(place: Path) -> None:
    """Remove what is not committed: of former writers, and of this one if it failed."""
    sizes: dict[str, int] = {}
    try:
        sizes = read_manifest(place).sizes
    except StoreError:
        if (place / MANIFEST).exists():
            return
    for path in list(place.iterdir()):
        if not OURS.fullmatch(path.name):
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.name not in sizes:
                os.unlink(path)  # noqa: PTH108
            elif path.stat().st_size > sizes[path.name]:
                os.truncate(path, sizes[path.name])
