"""Groups of the pairs of a store: which file of each is the keeper, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from fiftyone_isoclip.files.keepers import KeeperRanking, rank_keepers, readable_bytes
from fiftyone_isoclip.index import Pairs, join_keepers
from fiftyone_isoclip.index.duplicates import connected_components
from fiftyone_isoclip.index.vectors import Float32s, Rows

RECORDED = "most_bytes"
"""The rule where a file is out of reach: it goes by the sizes that the store has of all of them."""

KEEPER, DUPLICATE = "keeper", "duplicate"

SCHEMA = pa.schema(
    {
        "group": pa.int64(),
        "component": pa.int64(),
        "id": pa.string(),
        "path": pa.string(),
        "role": pa.string(),
        "similarity": pa.float32(),
        "reason": pa.string(),
    }
)
"""A row for each image of a group: the keeper first, then by similarity to it."""


def group_rows(pairs: Pairs, files: pa.Table, prefer: str) -> tuple[pa.Table, str]:
    """Divide the images that have a pair into star groups; -> rows of `SCHEMA`, and the rule.

    ``files`` has the columns id, path and bytes of the rows that have a pair, ascending. Groups
    come in the order of their keepers' ids; components are numbered as their first groups come.
    """
    pairs = _among_themselves(pairs)
    ranking, rule = _rank(files, prefer)
    keepers, members = join_keepers(pairs, prefer=ranking.prefer)
    scores = _similarities(pairs, keepers, members)
    # Rows are sorted by shard; ids are what a reader can go by.
    place = np.argsort(np.argsort(np.array(files["id"].to_pylist(), object), kind="stable"))
    order = np.lexsort((place[members], -scores, place[keepers]))
    keepers, members, scores = keepers[order], members[order], scores[order]
    heads = np.flatnonzero(np.diff(keepers, prepend=-1))
    rows = np.insert(members, heads, keepers[heads])
    is_keeper = np.insert(np.zeros(len(members), bool), heads, True)
    return _table(files, pairs, rows, is_keeper, np.insert(scores, heads, np.nan), ranking), rule


def _table(
    files: pa.Table,
    pairs: Pairs,
    rows: Rows,
    is_keeper: np.ndarray[tuple[int], np.dtype[np.bool_]],
    scores: Float32s,
    ranking: KeeperRanking,
) -> pa.Table:
    found, first, again = np.unique(
        connected_components(pairs)[rows], return_index=True, return_inverse=True
    )
    numbers = np.empty(len(found), np.int64)
    numbers[np.argsort(first)] = np.arange(len(found))
    reasons = [
        ranking.reasons[row] if keeps else None
        for row, keeps in zip(rows.tolist(), is_keeper.tolist(), strict=True)
    ]
    columns = {
        "group": np.cumsum(is_keeper) - 1,
        "component": numbers[again],
        "id": files["id"].take(rows),
        "path": files["path"].take(rows),
        "role": np.where(is_keeper, KEEPER, DUPLICATE).tolist(),
        "similarity": pa.array(scores, pa.float32(), mask=is_keeper),
        "reason": reasons,
    }
    return pa.table(columns, SCHEMA)


def _among_themselves(pairs: Pairs) -> Pairs:
    """The same pairs, of the rows that have one alone."""
    rows, ends = np.unique(np.concatenate([pairs.left, pairs.right]), return_inverse=True)
    left, right = ends[: len(pairs)], ends[len(pairs) :]
    return Pairs(len(rows), left, right, pairs.similarity, pairs.least, pairs.recall)


def _similarities(pairs: Pairs, keepers: Rows, members: Rows) -> Float32s:
    known = pairs.left * pairs.n + pairs.right
    sought = np.minimum(keepers, members) * pairs.n + np.maximum(keepers, members)
    return np.asarray(pairs.similarity[np.searchsorted(known, sought)])


def _rank(files: pa.Table, rule: str) -> tuple[KeeperRanking, str]:
    """Rank files by a rule that opens them, or by their recorded sizes where one is not here."""
    paths = files["path"].to_pylist()
    # Of two images only one of which is here, the other may be the original.
    if all(Path(path).is_file() for path in paths):
        return rank_keepers(paths, rule), rule
    sizes = files["bytes"].to_pylist()

    def standing(row: int) -> tuple[int, int, str]:
        return -(sizes[row] or 0), len(paths[row]), paths[row]

    prefer = np.empty(len(paths), np.int64)
    prefer[sorted(range(len(paths)), key=standing)] = np.arange(len(paths))
    told = ["of unknown size" if size is None else readable_bytes(size) for size in sizes]
    reasons = [f"{RECORDED}: {size}, as not all files are here for {rule!r}" for size in told]
    return KeeperRanking(prefer, reasons), RECORDED
