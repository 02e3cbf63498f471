"""An inverted file on disk: replaced all at once, and read only if every byte is as written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.sealed import read_sealed, write_sealed
from fiftyone_isoclip.index.search_inverted import Effort, InvertedFile

_KIND, _FORMAT = "an inverted file", 2
_REMEDY = "The cells are chosen anew."


def write_inverted(
    path: Path, inverted: InvertedFile, *, fingerprint: str | None, band: str | None
) -> None:
    """Replace what a file holds by cells, codes and row keys, noting what the rows came from.

    A process killed at any moment leaves the old content or the new.

    Raises:
        StoreError: if it cannot be written; the old content stays.
    """
    import faiss

    index = faiss.serialize_index(inverted.index)
    header = {
        "fingerprint": fingerprint,
        "band": band,
        "trained_on": inverted.trained_on,
        "gone": inverted.gone,
        "efforts": {str(k): asdict(effort) for k, effort in inverted.efforts.items()},
        "places": len(inverted.keys),
    }
    payload: list[bytes | memoryview] = [inverted.keys.astype("<u8").tobytes(), index.data]
    write_sealed(path, _KIND, _FORMAT, header, payload)


def read_inverted(path: Path, *, fingerprint: str | None, band: str | None) -> InvertedFile:
    """Read what `write_inverted` wrote for rows of the same weights and band.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: if it is damaged, of another format, or of other rows.
    """
    import faiss

    origin = {"fingerprint": fingerprint, "band": band}
    header, payload = read_sealed(path, _KIND, _FORMAT, origin, remedy=_REMEDY)
    try:
        cut = 8 * header["places"]
        keys = np.frombuffer(payload[:cut], "<u8").astype(np.uint64)
        # Only bytes that are as they were written reach faiss, which trusts what it parses.
        index = faiss.deserialize_index(np.frombuffer(payload[cut:], np.uint8))
        efforts = {int(k): Effort(**effort) for k, effort in header["efforts"].items()}
        found = InvertedFile(index, keys, header["trained_on"], efforts, header["gone"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: {error}. {_REMEDY}") from error
    if len(keys) != index.ntotal:
        raise StoreError(
            f"{path} is damaged: it has keys of {len(keys):,} rows and codes of "
            f"{index.ntotal:,}. {_REMEDY}"
        )
    return found
