"""The files of a field kept up to date, and its vectors moved between them and the samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.fields import Origin, need_origin, write_origin
from fiftyone_isoclip.dataset.sidestore import (
    MISSING,
    SideStore,
    append_vectors,
    named_folder,
    store_folder,
    store_name,
)
from fiftyone_isoclip.dataset.sources import UNKNOWN, read_sources
from fiftyone_isoclip.dataset.vectors import read_database
from fiftyone_isoclip.dataset.writing import write_values
from fiftyone_isoclip.errors import DatasetError, StoreError
from fiftyone_isoclip.index.store import open_sound, read_store, remove_rows

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 4096


def refresh_copy(dataset: fo.Dataset, field: str, anew: Sequence[str] = ()) -> None:
    """Bring the copy of a field of plain embeddings up to date, also for samples written anew.

    What it lacks is added and what no sample has any more is removed. A copy that cannot be
    written is said in the log.
    """
    if not dataset.has_field(f"{field}_source"):
        return  # nothing tells which of its vectors are current
    try:
        _refresh(dataset, field, set(anew))
    except StoreError as error:
        logger.warning("%s Searches read the database instead, which is slower.", error)


def prune_files(dataset: fo.Dataset, field: str) -> None:
    """Remove from the files of a field what no sample has any more.

    Raises:
        StoreError: they cannot be written.
    """
    origin = need_origin(dataset, field)
    stored = open_sound(store_folder(dataset, field), origin.fingerprint, origin.dim)
    if stored is not None:
        store, now = SideStore(stored), read_sources(dataset, field)
        _remove_all_but(dataset, field, store, store.rows(now.ids, now.sources))


def open_files(dataset: fo.Dataset, field: str, origin: Origin) -> SideStore | None:
    """Open the files of a field that keeps its vectors there, to add to them; damage is left out.

    A clone, or a field that was renamed, still names the files of what it came from: what it needs
    of them is copied first.

    Raises:
        StoreError: they cannot be read or written.
    """
    own = store_name(dataset, field)
    if origin.folder not in (None, own):
        _adopt(dataset, field, origin)
    if origin.folder != own:
        write_origin(dataset, field, replace(origin, folder=own))
    stored = open_sound(store_folder(dataset, field), origin.fingerprint, origin.dim)
    return None if stored is None else SideStore(stored)


def move_to_files(dataset: fo.Dataset, field: str) -> None:
    """Take the vectors of a field off its samples, once all of them lie in files.

    Raises:
        DatasetError: some of them cannot be told apart later, or the files cannot be written.
    """
    found = read_sources(dataset, field)
    unknown = found.sources.count(UNKNOWN)
    if unknown:
        raise DatasetError(
            f"{unknown} vectors in field {field!r} were made from files that cannot be found, and "
            "stay on their samples; bring the files back and embed again"
        )
    try:
        _refresh(dataset, field, set(found.ids))
    except StoreError as error:
        raise DatasetError(f"the vectors of {field!r} stay on their samples: {error}") from error
    origin = need_origin(dataset, field)
    stored = read_store(store_folder(dataset, field), expected_fingerprint=origin.fingerprint)
    rows = SideStore(stored).rows(found.ids, found.sources)
    unusable = np.count_nonzero(found.held) - np.count_nonzero(rows != MISSING)
    if unusable:
        raise DatasetError(
            f"{unusable} vectors in field {field!r} cannot be used, and all of them stay on their "
            "samples; embed with overwrite=True"
        )
    write_origin(dataset, field, replace(origin, folder=store_name(dataset, field)))
    dataset.clear_sample_field(field)


def move_to_samples(dataset: fo.Dataset, field: str) -> None:
    """Write the vectors of a field onto its samples; the files stay as a copy.

    Raises:
        DatasetError: the files are lost or damaged.
    """
    origin = need_origin(dataset, field)
    now = read_sources(dataset, field)
    try:
        store = open_files(dataset, field, origin)
        rows = np.full(len(now.ids), MISSING) if store is None else store.rows(now.ids, now.sources)
        found = np.flatnonzero(rows != MISSING)
        lost = np.count_nonzero(now.held) - len(found)
        if lost:
            raise DatasetError(f"{lost} vectors of field {field!r} are lost; embed again")
        for start in range(0, len(found), _ROWS_AT_ONCE):
            chosen = found[start : start + _ROWS_AT_ONCE]
            assert store is not None  # it holds these rows
            vectors = zip([now.ids[row] for row in chosen], store.read(rows[chosen]), strict=True)
            write_values(dataset, field, dict(vectors))
    except StoreError as error:
        raise DatasetError(f"the vectors of {field!r} stay in files: {error}") from error
    write_origin(dataset, field, replace(origin, folder=None))


def _refresh(dataset: fo.Dataset, field: str, anew: set[str]) -> None:
    origin = need_origin(dataset, field)
    stored = open_sound(store_folder(dataset, field), origin.fingerprint, origin.dim)
    now = read_sources(dataset, field)
    rows = np.full(len(now.ids), MISSING)
    if stored is not None:
        rows = SideStore(stored).rows(now.ids, now.sources)
        rows[[id_ in anew for id_ in now.ids]] = MISSING
    due = np.array([bool(source) for source in now.sources], np.bool_)
    lacking = np.flatnonzero(due & (rows == MISSING))
    source_of = dict(zip(now.ids, now.sources, strict=True))
    for start in range(0, len(lacking), _ROWS_AT_ONCE):
        chosen = [now.ids[row] for row in lacking[start : start + _ROWS_AT_ONCE]]
        read = read_database(dataset.select(chosen), field, origin.dim)
        sources = [source_of[id_] for id_ in read.ids]
        append_vectors(dataset, field, origin.fingerprint, read.vectors, read.ids, sources)
    if stored is not None:  # last, so that a stop costs nothing that was there
        _remove_all_but(dataset, field, SideStore(stored), rows)


def _remove_all_but(dataset: fo.Dataset, field: str, store: SideStore, rows: Any) -> None:
    gone = np.ones(len(store.stored.ids), np.bool_)
    gone[rows[rows != MISSING]] = False
    if gone.any():
        remove_rows(store_folder(dataset, field), store.stored, np.flatnonzero(gone))


def _adopt(dataset: fo.Dataset, field: str, origin: Origin) -> None:
    """Copy from the files of another field, as far as they are there, what this one needs."""
    try:
        stored = read_store(
            named_folder(str(origin.folder)), expected_fingerprint=origin.fingerprint
        )
    except StoreError as error:
        logger.warning("%s The vectors of %r are computed again.", error, field)
        return
    now = read_sources(dataset, field)
    former = SideStore(stored)
    own = open_sound(store_folder(dataset, field), origin.fingerprint, origin.dim)
    rows = former.rows(now.ids, now.sources)
    rows[np.isin(rows, stored.damaged_rows())] = MISSING
    if own is not None:
        rows[SideStore(own).rows(now.ids, now.sources) != MISSING] = MISSING
    found = np.flatnonzero(rows != MISSING)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        chosen = found[start : start + _ROWS_AT_ONCE]
        ids, sources = [now.ids[row] for row in chosen], [now.sources[row] for row in chosen]
        vectors = former.read(rows[chosen])
        append_vectors(dataset, field, origin.fingerprint, vectors, ids, sources)
