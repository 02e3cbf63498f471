"""The nearest rows of a query at any size: all scored, or those that an inverted file proposes."""

from __future__ import annotations

import logging
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.index.neighbors import CosineIndex, Neighbors
from fiftyone_isoclip.index.search_inverted import (
    DUE,
    SAMPLE,
    SEED,
    InvertedFile,
    Keys,
    some_rows,
    train,
)
from fiftyone_isoclip.index.vectors import Float32s, Rows, as_table, unit_rows

logger = logging.getLogger(__name__)

FLAT_LIMIT = 20_000
"""Up to so many rows all of them are scored, which takes less than two milliseconds."""

TAIL_LIMIT = 8_192
"""Up to so many new rows wait outside the cells, all of them scored for every query."""

_GROWTH = 2
_GONE_SHARE = 0.25
_UNMEASURED_SHARE = 0.02
_NOWHERE = -1


class SearchIndex:
    """Search by cosine over the rows of an exact index, (n, d).

    Beyond `FLAT_LIMIT` rows an inverted file proposes rows and the exact index scores them: a
    similarity is the same number on every path, and only rows can be missed. How many cells are
    opened is chosen for a recall of .997 on a sample of the rows. Among some rows only, or for
    more than 100 neighbours, every row is scored.

    No graph (HNSW), because rows can leave one only by building it anew. An inverted file is never
    changed: new rows wait beside it, rows that are gone are passed over, and threads may search
    while another one replaces the index.
    """

    def __init__(
        self, exact: CosineIndex, keys: Keys, inverted: InvertedFile | None = None
    ) -> None:
        """Search the rows of an index.

        Args:
            exact: the rows.
            keys: (n,) of `row_keys`; they tell which rows an inverted file holds.
            inverted: made of most of these rows, in any order, if there is one.
        """
        self.exact = exact
        self.keys = keys
        self.inverted = inverted if exact.n > FLAT_LIMIT else None

    @property
    def kind(self) -> str:
        """`flat`, which is exact, or `inverted file`."""
        return "inverted file" if self._proposes else "flat"

    @property
    def description(self) -> str:
        """What a search does, in a sentence."""
        if self.inverted is None or not self._proposes:
            return f"flat: exact, all of {self.exact.n:,} vectors are scored"
        k, effort = min(self.inverted.efforts.items())
        due = DUE[k]
        return (
            f"inverted file: {effort.probes:,} of {self.inverted.cells:,} cells opened and "
            f"{effort.width:,} of {self.exact.n:,} vectors scored for k = {k}, "
            f"{effort.recall:.2%} of the {due} nearest found on a sample"
        )

    @cached_property
    def is_due(self) -> bool:
        """Whether `prepared` has something to do."""
        if self.exact.n <= FLAT_LIMIT:
            return False
        if self._is_outgrown or self.inverted is None or len(self._tail) > TAIL_LIMIT:
            return True
        unmeasured = self._gone - self.inverted.gone
        return unmeasured > _UNMEASURED_SHARE * len(self.inverted.keys)

    @property
    def _is_outgrown(self) -> bool:
        """The one rule of when cells are chosen anew."""
        if self.inverted is None or self.inverted.index.d - self.exact.dim not in (0, 1):
            return True
        grown = self.exact.n > _GROWTH * self.inverted.trained_on
        return grown or self._gone > _GONE_SHARE * len(self.inverted.keys)

    def prepared(self) -> SearchIndex:
        """This index with an inverted file that fits its rows: trained, extended, or as it is.

        Without rows that are gone the neighbours of a query lie further away, in more cells:
        recall is measured again after one in fifty has gone.
        """
        if not self.is_due:
            return self
        units = self.exact.vectors
        if self.inverted is None or self._is_outgrown:
            inverted = train(units, self.keys)
        else:
            inverted = self.inverted.extended(self._tail_units, self.keys[self._tail])
        whole = SearchIndex(self.exact, self.keys, inverted)
        measured = inverted.measured(*whole._truth(), gone=whole._gone)
        found = SearchIndex(self.exact, self.keys, measured)
        logger.info("Search index: %s", found.description)
        return found

    def nearest(
        self, queries: npt.ArrayLike, k: int, *, among: npt.ArrayLike | None = None
    ) -> Neighbors:
        """Find the k rows most similar to each query: (m, d) -> (m, k'), k' = min(k, candidates).

        Args:
            queries: (m, d); they need not have length 1.
            k: how many rows to find, at least 1.
            among: rows that may be found, in any order; every row if None.

        Raises:
            VectorError: as `CosineIndex.nearest`.
        """
        asked = as_table(queries)
        fits = asked.shape[1] == self.exact.dim and len(asked) > 0
        if not (fits and among is None and 1 <= k <= self._most_proposed):
            return self.exact.nearest(queries, k, among=among)
        units = unit_rows(asked)
        found = [self._nearest(units[[row]], k) for row in range(len(units))]
        return Neighbors(
            np.concatenate([one.rows for one in found]),
            np.concatenate([one.similarities for one in found]),
        )

    def _nearest(self, unit: Float32s, k: int) -> Neighbors:
        assert self.inverted is not None
        places = self.inverted.propose(unit, k)[0]
        rows = self._row_of_place[places[places >= 0]]
        rows = rows[rows != _NOWHERE]
        scores = np.concatenate([self.exact.vectors[rows] @ unit[0], self._tail_units @ unit[0]])
        rows = np.concatenate([rows, self._tail])
        if len(rows) < k:
            return self.exact.nearest(unit, k)
        # Twice as many: products in float32 may put near-copies in another order.
        if len(rows) > 2 * k:
            rows = rows[np.argpartition(scores, len(rows) - 2 * k)[len(rows) - 2 * k :]]
        return self.exact.nearest(unit, k, among=rows)

    @property
    def _most_proposed(self) -> int:
        """For up to how many neighbours the inverted file proposes."""
        return max(self.inverted.efforts, default=0) if self.inverted is not None else 0

    @property
    def _proposes(self) -> bool:
        return self.inverted is not None and bool(self.inverted.efforts)

    @cached_property
    def _row_of_place(self) -> Rows:
        """(places,) the row whose content is at each place, -1 if it is gone."""
        assert self.inverted is not None
        order = np.argsort(self.keys)
        at = np.searchsorted(self.keys, self.inverted.keys, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)]
        return np.where(self.keys[rows] == self.inverted.keys, rows, _NOWHERE)

    @cached_property
    def _gone(self) -> int:
        """How many places stand for no row any more."""
        return int(np.count_nonzero(self._row_of_place == _NOWHERE))

    @cached_property
    def _tail(self) -> Rows:
        """The rows that are in no cell."""
        inside = np.zeros(self.exact.n, np.bool_)
        inside[self._row_of_place[self._row_of_place != _NOWHERE]] = True
        return np.flatnonzero(~inside)

    @cached_property
    def _tail_units(self) -> Float32s:
        return self.exact.vectors[self._tail].astype(np.float32)

    def _truth(self) -> tuple[Float32s, Rows, Float32s]:
        """A sample of rows, the places of their nearest others, and those others."""
        import faiss

        # faiss takes float32 alone: rows in half precision are doubled for this moment.
        units = np.asarray(self.exact.vectors, dtype=np.float32)
        rows = some_rows(np.random.default_rng(SEED), len(units), SAMPLE)
        most = max(DUE.values())
        found = faiss.knn(units[rows], units, most + 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
        itself = found == rows[:, None]
        itself[~itself.any(axis=1), -1] = True  # among many copies a row may not have found itself
        others = found[~itself].reshape(len(rows), most)
        place_of_row = np.full(len(units), _NOWHERE)
        held = np.flatnonzero(self._row_of_place != _NOWHERE)
        place_of_row[self._row_of_place[held]] = held
        return units[rows], place_of_row[others], units[others]
