"""The samples that are compared for leaks, from one dataset or several, and the search itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_isoclip.dataset.crossing import Crossing
from fiftyone_isoclip.dataset.fields import dataset_of, need_origin
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.dataset.splits import Splits
from fiftyone_isoclip.dataset.verdicts import Verdicts
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files.copies import Contents
from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.index.pair_search import Progress
from fiftyone_isoclip.index.vectors import Float32s


@dataclass(frozen=True, slots=True)
class Side:
    """The samples of one dataset that are compared (n): their splits and vectors (n, k)."""

    ids: list[str]
    paths: list[str]
    splits: list[str]
    vectors: Float32s
    skipped: Mapping[str, str]


class Search:
    """The rows of all sides, one after the other, the own ones first."""

    def __init__(self, sides: Sequence[Side], names: Sequence[str], order: Sequence[str]) -> None:
        self.n_own = len(sides[0].ids)
        self.names = names
        self.ids = [id_ for side in sides for id_ in side.ids]
        self.paths = [path for side in sides for path in side.paths]
        place_of = {name: place for place, name in enumerate(names)}
        self.split_of = np.array([place_of[n] for side in sides for n in side.splits], np.int64)
        self._order = [place_of[name] for name in order]
        self._fixed = len(sides) - 1
        self._vectors = np.concatenate([side.vectors for side in sides])

    def cross(self, similarity: float, verdicts: Verdicts, progress: Progress | None) -> Crossing:
        """Find the pairs of rows in different splits, without those that are no duplicates."""
        judged = self._judged(verdicts)
        alone = {row for pair in judged for row in pair}
        nodes: list[Sequence[int]] = []
        firsts: list[int] = []
        for rows in Contents.of(self.paths).rows:
            # A verdict is about two samples, so they stand apart from the other copies.
            held = [[row] for row in rows if row in alone]
            together = [row for row in rows if row not in alone]
            held += [together] if together else []
            nodes += held
            # One vector a content: no rounding can part a copy from its original.
            firsts += [rows[0]] * len(held)
        node_of = {rows[0]: node for node, rows in enumerate(nodes)}
        index = CosineIndex(self._vectors[firsts], copy=False)
        pairs = index.pairs_above(similarity, progress=progress)
        places = [sorted((node_of[one], node_of[other])) for one, other in judged]
        apart = {(low, high) for low, high in places}
        return Crossing(nodes, self.split_of, pairs, self._order, self._fixed, apart)

    def _judged(self, verdicts: Verdicts) -> list[tuple[int, int]]:
        # Beware: the samples of a cloned dataset have the ids of the original's.
        rows_of: dict[str, list[int]] = {}
        for row, id_ in enumerate(self.ids):
            rows_of.setdefault(id_, []).append(row)
        pairs = (sorted(pair) for pair in verdicts if len(pair) == 2 and pair <= rows_of.keys())
        return [(a, b) for one, other in pairs for a in rows_of[one] for b in rows_of[other]]


def own_side(samples: Any, space: Space, found: Splits, order: Sequence[str]) -> Side:
    """The samples that are in a split; one in two splits counts where it stays."""
    stored = space.stored
    kept = [row for row, id_ in enumerate(stored.ids) if id_ in found.of]
    ids = [stored.ids[row] for row in kept]
    paths = dict(zip(*samples.values(["id", "filepath"]), strict=True))
    splits = [max(found.of[id_], key=order.index) for id_ in ids]
    skipped = {id_: why for id_, why in stored.skipped.items() if id_ in found.of}
    return Side(ids, [paths[id_] for id_ in ids], splits, space.vectors[kept], skipped)


def other_side(name: str, samples: Any, own: Space) -> Side:
    """Another dataset, all of it in one split of this name.

    Raises:
        DatasetError: it has no embeddings of the same checkpoint.
    """
    dataset, field = dataset_of(samples), own.stored.field
    origin = need_origin(dataset, field)
    if origin.fingerprint != own.origin.fingerprint:
        raise DatasetError(
            f"field {field!r} of {dataset.name!r} holds {origin}, and that of the samples holds "
            f"{own.origin}; embed() both datasets with one checkpoint"
        )
    space = open_space(samples, field, own.band, own.centre).without_changed(samples)
    ids = space.stored.ids
    paths = dict(zip(*samples.values(["id", "filepath"]), strict=True))
    splits = [name] * len(ids)
    return Side(ids, [paths[id_] for id_ in ids], splits, space.vectors, space.stored.skipped)
