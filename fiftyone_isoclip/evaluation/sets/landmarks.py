"""Revisited Oxford (ROxford5k) and Revisited Paris (RParis6k)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.metrics.revisited import Judged
from fiftyone_isoclip.evaluation.sets.plain_pickle import read_plain_pickle
from fiftyone_isoclip.evaluation.sets.retrieval_set import (
    DamagedSetError,
    RetrievalSet,
    first_there,
    image_paths,
    no_own_rows,
)
from fiftyone_isoclip.evaluation.sets.text_files import damaged
from fiftyone_isoclip.index.vectors import NO_ROWS, Rows

FOLDERS = {"roxford": "roxford5k", "rparis": "rparis6k"}
_SOURCE = (
    "the ground truth is of the project filipradenovic/revisitop, the images are of the Visual "
    "Geometry Group in Oxford and go into the folder jpg beside it"
)
_DIFFICULTIES = ("easy", "hard", "junk")


def open_landmarks(root: Path, name: str) -> RetrievalSet:
    """Read ``roxford5k`` or ``rparis6k``: ``gnd_*.pkl`` and the folder ``jpg``.

    As in the research code, queries are ``qimlist`` and the gallery is ``imlist``, in which no
    query is. The whole query image is embedded, not the box ``bbx`` around the building as in the
    first protocol of these sets, and the paper's figure is the mAP of the easy protocol. The
    research code adds to the gallery the distractors (``revisitop1m``) that lie on its disk; here
    there are none.

    Raises:
        AbsentSetError: the ground truth is not there.
        DamagedSetError: it is not as it is published, or images that it names are missing.
    """
    folder = FOLDERS[name]
    file = f"{folder}/gnd_{folder}.pkl"
    path = first_there(root, [file, f"revisitop/{file}"], f"ground truth of {name}", _SOURCE)
    try:
        truth = read_plain_pickle(path)
    except IsoClipError as error:
        raise DamagedSetError(str(error)) from error
    queries, gallery = (_names(path, truth, key) for key in ("qimlist", "imlist"))
    rows = [_rows(path, truth, key, len(queries), len(gallery)) for key in _DIFFICULTIES]
    return RetrievalSet(
        name,
        image_paths(path.parent / "jpg", queries),
        np.full(len(queries), -1, np.int64),
        image_paths(path.parent / "jpg", gallery),
        np.full(len(gallery), -1, np.int64),
        no_own_rows(len(queries)),
        classes=(),
        train_rows=NO_ROWS,
        test_rows=NO_ROWS,
        judged=tuple(map(Judged, *rows)),
    )


def _names(path: Path, truth: Any, key: str) -> list[str]:
    names = truth.get(key) if isinstance(truth, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise damaged(path, f"it holds no list of names called {key!r}")
    return [f"{name}.jpg" for name in names]


def _rows(path: Path, truth: Any, key: str, n_queries: int, n_gallery: int) -> tuple[Rows, ...]:
    """The rows of the gallery that each query has at one difficulty."""
    queries = truth.get("gnd")
    if not isinstance(queries, list) or len(queries) != n_queries:
        raise damaged(path, f"'gnd' does not hold {n_queries} queries")
    found = []
    for query in queries:
        rows = list(query.get(key, "?")) if isinstance(query, dict) else ["?"]
        if not all(isinstance(row, int | np.integer) and 0 <= row < n_gallery for row in rows):
            raise damaged(path, f"{key!r} of a query does not hold rows of the {n_gallery} images")
        found.append(np.array(rows, np.int64))
    return tuple(found)
