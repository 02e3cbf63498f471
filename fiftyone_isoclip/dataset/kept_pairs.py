"""The pairs of a search, kept in a file: moving the similarity needs no new search."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.places import side_path
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.pair_files import KeptPairs, read_pairs, write_pairs

__all__ = ["KeptPairs", "digest_of", "drop_pairs", "keep_pairs", "load_pairs"]

logger = logging.getLogger(__name__)

_OPENED = 4
"""How many files stay in memory: one for each of the datasets that are looked at by turns."""

_ORPHAN_SECONDS = 86_400
"""A file that no run names belongs to one that is being saved, or after so long to nobody."""


def digest_of(ids: list[str], vectors: npt.NDArray[np.float32]) -> str:
    """A digest of these vectors (n, k) under these ids: another one, other pairs."""
    found = hashlib.blake2b("\n".join(ids).encode(), digest_size=16)
    found.update(np.ascontiguousarray(vectors).data)
    return found.hexdigest()


def keep_pairs(dataset: fo.Dataset, kept: KeptPairs) -> str | None:
    """Write pairs to a file; -> the name under which `load_pairs` finds them, None if it failed."""
    name = uuid.uuid4().hex
    try:
        write_pairs(_path(dataset, name), kept, str(dataset._doc.id))
    except StoreError as error:
        logger.warning("the pairs are not kept, moving the similarity searches anew: %s", error)
        return None
    _remove_orphans(dataset)
    return name


def load_pairs(dataset: fo.Dataset, name: str | None) -> KeptPairs | None:
    """The pairs kept under a name, or None if there are none (any more).

    A file that is damaged, or of another dataset, is said in the log.
    """
    if not name:
        return None
    try:
        path = _path(dataset, name)
        now = path.stat()
        state = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        return _opened(path, str(dataset._doc.id), state)
    except FileNotFoundError:
        logger.info("there are no kept pairs %r", name)
    except OSError as error:
        logger.warning("%s cannot be read: %s", error.filename, error.strerror)
    except StoreError as error:
        logger.warning("%s", error)
    return None


def drop_pairs(dataset: fo.Dataset, name: str | None) -> None:
    """Delete the file of a name, if there is one."""
    if name:
        with suppress(StoreError):  # a name that was changed by hand is no file of ours
            _path(dataset, name).unlink(missing_ok=True)


@lru_cache(maxsize=_OPENED)
def _opened(path: Path, dataset_id: str, state: tuple[int, ...]) -> KeptPairs:
    return read_pairs(path, dataset_id)


def _remove_orphans(dataset: fo.Dataset) -> None:
    """Delete what processes left that were killed between writing pairs and saving their run."""
    runs = [dataset.get_run_info(key).config for key in dataset.list_runs()]
    named = {getattr(config, "details", {}).get("pairs") for config in runs}
    for path in _path(dataset, "any").parent.glob("*.pairs"):
        with suppress(OSError):
            if path.stem not in named and time.time() - path.stat().st_mtime > _ORPHAN_SECONDS:
                path.unlink()


def _path(dataset: fo.Dataset, name: str) -> Path:
    # A clone has an id of its own, so deleting its run leaves the file of the original alone.
    return side_path("pairs", str(dataset._doc.id), f"{name}.pairs")
