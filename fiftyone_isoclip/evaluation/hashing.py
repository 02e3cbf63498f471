"""Perceptual hashes as a way of comparing: the baseline for copies that needs no model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.evaluation.methods import Method
from fiftyone_isoclip.index.vectors import Float32s

PHASH = "pHash 64 bit"

BITS = 64
_SIDE = 8
_NAMED = 3
_MOST_WORKERS = 8

Told = Callable[[int], object] | None
Paths = Sequence[str | Path]


def phash_method(queries: Paths, gallery: Paths, *, told: Told = None) -> Method:
    """Hash n and m image files by pHash: rows of 64 numbers, +1/8 for a set bit and -1/8 else.

    The cosine of two rows is 1 - 2 h / 64 with h the bits in which they differ. A file that cannot
    be read has a row of zeros and is like nothing, cosine 0; the note tells how many there are.
    ``told`` is called with how many more files are done.
    """
    failed: dict[str, str] = {}
    rows = [hash_images(paths, failed, told) for paths in (queries, gallery)]
    note = "the signs of the lowest frequencies of a 32 x 32 grey picture, no model"
    if failed:
        named = [f"{path} ({reason})" for path, reason in list(failed.items())[:_NAMED]]
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        note += f"; {len(failed)} files could not be read: {', '.join(named)}{more}"
    return Method(PHASH, "hash", rows[0], rows[1], note)


def hash_images(paths: Paths, failed: dict[str, str] | None = None, told: Told = None) -> Float32s:
    """Hash image files, -> (n, 64) rows of +-1/8; what cannot be read is zeros, and ``failed``."""
    reasons = {} if failed is None else failed
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    rows = np.zeros((len(paths), BITS), np.float32)
    with ThreadPoolExecutor(workers, thread_name_prefix="isoclip-hash") as threads:
        hashing = threads.map(_bits_of, paths)
        for row, (path, bits) in enumerate(zip(paths, hashing, strict=True)):
            if isinstance(bits, str):
                reasons[str(path)] = bits
            else:
                rows[row] = np.where(bits, 1 / _SIDE, -1 / _SIDE)
            if told is not None:
                told(1)
    return rows


def _bits_of(path: str | Path) -> npt.NDArray[np.bool_] | str:
    """The bits (64,) of a picture's hash, or why it has none."""
    try:
        picture = read_image(path)
    except ImageError as error:
        return str(error)
    bits: npt.NDArray[np.bool_] = imagehash.phash(picture, hash_size=_SIDE).hash.reshape(-1)
    return bits
