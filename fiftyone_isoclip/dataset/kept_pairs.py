"""The pairs of a search, kept in a file: moving the similarity needs no new search."""

from __future__ import annotations

import hashlib
import logging
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.index import Pairs

logger = logging.getLogger(__name__)

_OPENED = 4
"""How many files stay in memory: one for each of the datasets that are looked at by turns."""


@dataclass(frozen=True, eq=False, slots=True)
class KeptPairs:
    """Pairs of rows, the sample that stands for each row, and a digest of the vectors compared."""

    ids: npt.NDArray[np.str_]
    pairs: Pairs
    digest: str


def digest_of(ids: list[str], vectors: npt.NDArray[np.float32]) -> str:
    """A digest of these vectors (n, k) under these ids: another one, other pairs."""
    found = hashlib.blake2b("\n".join(ids).encode(), digest_size=16)
    found.update(np.ascontiguousarray(vectors).data)
    return found.hexdigest()


def keep_pairs(dataset: fo.Dataset, kept: KeptPairs) -> str | None:
    """Write pairs to a file; -> the name under which `load_pairs` finds them, None if it failed."""
    name = uuid.uuid4().hex
    path = _path(dataset, name)
    part = path.with_suffix(".part")
    pairs = kept.pairs
    recall = np.nan if pairs.recall is None else pairs.recall
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(
                file,
                ids=kept.ids,
                left=pairs.left.astype(np.int32),
                right=pairs.right.astype(np.int32),
                similarity=pairs.similarity,
                least=pairs.least,
                recall=recall,
                digest=kept.digest,
            )
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        logger.warning("the pairs are not kept, moving the similarity searches anew: %s", error)
        return None
    return name


def load_pairs(dataset: fo.Dataset, name: str | None) -> KeptPairs | None:
    """The pairs kept under a name, or None if there are none (any more)."""
    if not name:
        return None
    path = _path(dataset, name)
    try:
        return _read(str(path), path.stat().st_mtime_ns)
    except Exception as error:  # there is hardly one that numpy does not raise on a damaged file
        logger.info("there are no kept pairs %r: %s", name, error)
        return None


def drop_pairs(dataset: fo.Dataset, name: str | None) -> None:
    """Delete the file of a name, if there is one."""
    if name:
        _path(dataset, name).unlink(missing_ok=True)


@lru_cache(maxsize=_OPENED)
def _read(path: str, written: int) -> KeptPairs:
    # numpy leaves a damaged file open that it opened itself.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as held:
        recall = float(held["recall"])
        pairs = Pairs(
            len(held["ids"]),
            held["left"].astype(np.int64),
            held["right"].astype(np.int64),
            held["similarity"],
            float(held["least"]),
            None if np.isnan(recall) else recall,
        )
        return KeptPairs(held["ids"], pairs, str(held["digest"]))


def _path(dataset: fo.Dataset, name: str) -> Path:
    # A clone has an id of its own, so deleting its run leaves the file of the original alone.
    return side_folder() / "pairs" / str(dataset._doc.id) / f"{Path(name).name}.npz"
