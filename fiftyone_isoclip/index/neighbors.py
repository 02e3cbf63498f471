"""Vectors by cosine: the nearest of a query, and every pair above a similarity, both exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.pair_search import Progress, find_pairs
from fiftyone_isoclip.index.pairs import Pairs
from fiftyone_isoclip.index.vectors import (
    Float32s,
    Rows,
    Table,
    cosines,
    rounding_slack,
    row_blocks,
    unit_rows,
)

Storage = Literal["float32", "float16"]

_BLOCK_NUMBERS = 2**23


def check_storage(asked: str) -> Storage:
    """Give a storage back that exists.

    Raises:
        VectorError: if it does not.
    """
    if asked not in get_args(Storage):
        raise VectorError(f"Rows are held as {' or '.join(get_args(Storage))}; got {asked!r}.")
    return cast(Storage, asked)


@dataclass(frozen=True, eq=False, slots=True)
class Neighbors:
    """The rows nearest to each query, most similar first, equal ones by row.

    Attributes:
        rows: (m, k') positions in the index.
        similarities: (m, k') cosines to the query.
    """

    rows: Rows
    similarities: Float32s


class CosineIndex:
    """Exact search by cosine over a copy of the vectors: (n, d).

    A similarity never depends on what else is in the index: nothing is centred or quantised.
    """

    def __init__(
        self, vectors: npt.ArrayLike, *, copy: bool = True, storage: Storage = "float32"
    ) -> None:
        """Bring the vectors to rows of length 1.

        Args:
            vectors: (n, d), of any length.
            copy: False lets the index take over a writable float32 array, which it overwrites.
            storage: "float16" takes half the memory; similarities then err by up to 3e-4.

        Raises:
            VectorError: if a row is zero or not finite; the message names the rows.
        """
        units = unit_rows(vectors, in_place=not copy)
        self._hold(units.astype(check_storage(storage), copy=False))

    @classmethod
    def of_units(cls, units: Table) -> CosineIndex:
        """Index rows that another index gave out, float16 or float32, as they are."""
        index = cls.__new__(cls)
        index._hold(units)
        return index

    def _hold(self, units: Table) -> None:
        self._units = units.view()
        self._units.flags.writeable = False

    @property
    def n(self) -> int:
        """Rows in the index."""
        return len(self._units)

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return int(self._units.shape[1])

    @property
    def storage(self) -> Storage:
        """In which precision the rows are held."""
        return "float16" if self._units.dtype == np.float16 else "float32"

    @property
    def vectors(self) -> Table:
        """The unit rows, (n, d), read-only, float32 or float16."""
        return self._units

    def nearest(
        self, queries: npt.ArrayLike, k: int, *, among: npt.ArrayLike | None = None
    ) -> Neighbors:
        """Find the k rows most similar to each query: (m, d) -> (m, k'), k' = min(k, candidates).

        Args:
            queries: (m, d); they need not have length 1.
            k: how many rows to find, at least 1.
            among: rows that may be found, in any order; every row if None.

        Raises:
            VectorError: if k < 1, the queries have another dim or a row without direction, or
                `among` names rows that are not there.
        """
        if k < 1:
            raise VectorError(f"Asked for {k} neighbours; ask for at least 1.")
        asked = self._queries(queries)
        candidates = self._candidates(among)
        units = self._units if candidates is None else self._units[candidates]
        count = min(k, len(units))
        rows = np.empty((len(asked), count), dtype=np.int64)
        similarities = np.empty((len(asked), count), dtype=np.float32)
        step = max(1, _BLOCK_NUMBERS // max(1, len(units)))
        for start in range(0, len(asked) if count else 0, step):
            block = slice(start, start + step)
            rows[block], similarities[block] = _best(asked[block], units, count)
        return Neighbors(rows if candidates is None else candidates[rows], similarities)

    def pairs_above(
        self,
        similarity: float,
        *,
        recall: float | None = None,
        progress: Progress | None = None,
    ) -> Pairs:
        """Find every pair of rows with a cosine of at least `similarity`; see `find_pairs`.

        Raises:
            VectorError: as `find_pairs`.
        """
        return find_pairs(self._units, similarity, recall=recall, progress=progress)

    def _queries(self, queries: npt.ArrayLike) -> Float32s:
        asked = unit_rows(queries)
        if len(asked) and self.n and asked.shape[1] != self.dim:
            raise VectorError(
                f"The index holds vectors of dim {self.dim} and the queries have dim "
                f"{asked.shape[1]}; embed the queries with the same checkpoint and band."
            )
        return asked

    def _candidates(self, among: npt.ArrayLike | None) -> Rows | None:
        if among is None:
            return None
        rows = np.asarray(among)
        if rows.size == 0:
            return np.empty(0, dtype=np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise VectorError(
                f"`among` must be a list of rows; found shape {rows.shape} of {rows.dtype}."
            )
        if rows.min() < 0 or rows.max() >= self.n:
            raise VectorError(
                f"`among` names rows {rows.min()} to {rows.max()}; the index has rows 0 to "
                f"{self.n - 1}."
            )
        return np.unique(rows).astype(np.int64)


def _best(queries: Float32s, units: Table, count: int) -> tuple[Rows, Float32s]:
    rough = _products(queries, units)
    if count < len(units):
        last = np.partition(rough, len(units) - count, axis=1)[:, len(units) - count]
    else:
        last = rough.min(axis=1)
    # Rounding may have swapped rows on either side of the last place: score all that could be in.
    # float16 also leaves rows a little longer or shorter than 1.
    slack = rounding_slack(units.shape[1]) + (2.0**-10 if units.dtype == np.float16 else 0.0)
    in_reach = rough >= (last - 2 * slack)[:, None]
    asked, found = np.divmod(np.flatnonzero(in_reach), len(units))
    scores = cosines(queries, asked, units, found)
    order = np.lexsort((found, -scores, asked))
    firsts = np.searchsorted(asked[order], np.arange(len(queries)))
    chosen = order[firsts[:, None] + np.arange(count)]
    return found[chosen], scores[chosen]


def _products(queries: Float32s, units: Table) -> Float32s:
    if units.dtype == np.float32:
        return np.asarray(queries @ units.T)
    products = np.empty((len(queries), len(units)), dtype=np.float32)
    for block in row_blocks(*units.shape):
        products[:, block] = queries @ units[block].astype(np.float32).T
    return products
