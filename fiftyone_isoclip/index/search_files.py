"""An inverted file on disk: replaced all at once, and read only if every byte is as written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.search_inverted import Effort, InvertedFile

_FORMAT = 1
_REMEDY = "The cells are chosen anew."


def write_inverted(path: Path, inverted: InvertedFile, *, origin: str) -> None:
    """Replace what a file holds by cells, codes and row keys, noting what the rows came from.

    A process killed at any moment leaves the old content or the new.

    Raises:
        StoreError: if it cannot be written; the old content stays.
    """
    import faiss

    index = faiss.serialize_index(inverted.index)
    payload = inverted.keys.astype("<u8").tobytes() + index.tobytes()
    header = {
        "format": _FORMAT,
        "origin": origin,
        "trained_on": inverted.trained_on,
        "gone": inverted.gone,
        "efforts": {str(k): asdict(effort) for k, effort in inverted.efforts.items()},
        "places": len(inverted.keys),
        "bytes": len(payload),
    }
    written = json.dumps(header | {"sha256": _checksum(header, payload)}).encode("ascii")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, staged = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(written + b"\n" + payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)  # noqa: PTH105
        finally:
            Path(staged).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error


def read_inverted(path: Path, *, origin: str) -> InvertedFile:
    """Read what `write_inverted` wrote for rows of the same origin.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: if it is damaged, of another format, or of other rows.
    """
    import faiss

    try:
        first, _, payload = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}. {_REMEDY}") from error
    try:
        header = json.loads(first)
        version, checksum = header["format"], header.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged: it has no header. {_REMEDY}") from error
    if version != _FORMAT:
        raise StoreError(f"{path} has format {version}, and {_FORMAT} is read. {_REMEDY}")
    if checksum != _checksum(header, payload):
        raise StoreError(f"{path} is damaged: it is not as it was written. {_REMEDY}")
    if header["origin"] != origin:
        raise StoreError(f"{path} is of {header['origin']}, not of {origin}. {_REMEDY}")
    cut = 8 * header["places"]
    keys = np.frombuffer(payload[:cut], "<u8").astype(np.uint64)
    # Only bytes that are as they were written reach faiss, which trusts what it parses.
    index = faiss.deserialize_index(np.frombuffer(payload[cut:], np.uint8))
    efforts = {int(k): Effort(**effort) for k, effort in header["efforts"].items()}
    return InvertedFile(index, keys, header["trained_on"], efforts, header["gone"])


def _checksum(header: dict[str, object], payload: bytes) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode("ascii"))
    digest.update(payload)
    return digest.hexdigest()
