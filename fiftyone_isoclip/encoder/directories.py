"""How much the directory of a TIFF file asks to be read, which its own size does not tell."""

from __future__ import annotations

from typing import IO

import numpy as np

from fiftyone_isoclip.errors import ImageError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNITS = np.zeros(65536, np.float64)
_UNITS[1:14] = [1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4]
_UNITS[16:19] = 8
"""Bytes of one value, by the type of an entry; an unknown type is not read."""


def check_directory(file: IO[bytes], n_bytes: int) -> None:
    """Refuse a TIFF whose first directory names more bytes than the file of ``n_bytes`` has.

    Entries may share their bytes, and Pillow before 13 reads them anew for each: 5 MB can become
    300 GB in memory. Other files pass.

    Raises:
        ImageError: it names more than there is.
    """
    file.seek(0)
    head = file.read(16)
    if head[:4] not in _MAGIC:
        return
    order, large = "<" if head[:1] == b"I" else ">", b"+" in head[2:4]
    offset, counted = (f"{order}u8", f"{order}u8") if large else (f"{order}u4", f"{order}u2")
    entry = np.dtype(
        [("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", offset), ("at", offset)]
    )
    place = int(np.frombuffer(head[8:] if large else head[4:8], offset)[0])
    file.seek(min(place, n_bytes))
    found = file.read(np.dtype(counted).itemsize)
    if len(found) < np.dtype(counted).itemsize:
        return  # for Pillow to complain of
    most = min(int(np.frombuffer(found, counted)[0]), n_bytes // entry.itemsize)
    content = file.read(most * entry.itemsize)
    entries = np.frombuffer(content[: len(content) // entry.itemsize * entry.itemsize], entry)
    sizes = entries["count"].astype(np.float64) * _UNITS[entries["type"]]
    if sizes[sizes > np.dtype(offset).itemsize].sum() > n_bytes:
        raise ImageError("it is damaged: its directory names more than the file holds")
