"""An inverted file: rows in cells by direction, with short codes; it proposes what to score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.index.vectors import Float32s, Rows, Table, row_blocks

Keys = npt.NDArray[np.uint64]

AIM = 0.999
"""The recall asked of the sample: what is just enough there finds less elsewhere, .997 or more."""

DUE = {25: 10, 100: 100}
"""Up to how many neighbours are asked for, and of how many nearest ones the recall is meant."""

SAMPLE = 1024
"""Rows that recall is measured on."""

SEED = 0

_CELLS_A_ROOT = 3
_TRAINING_ROWS_A_CELL = 32
_ROUNDS = 6
_TRAINING_ROWS_OF_CODES = 65_536
_DIMS_A_CODE = 2
_BITS_A_CODE = 4
_TRUTHS = 25_600
_WIDEST = 40
_STEP = 1.4
_ADDED_AT_ONCE = 65_536

# Measured: codes of 272 dims are compared at about 5 ns a row, and a row fetched in about 1 us.
_CODES_FOR_A_ROW = 150


@dataclass(frozen=True, slots=True)
class Effort:
    """What a search does: cells opened, rows of them scored, and the recall measured with that."""

    probes: int
    width: int
    recall: float


@dataclass(frozen=True, eq=False, slots=True)
class InvertedFile:
    """Cells with product codes of four bits for every two dims; never changed once made.

    Attributes:
        index: faiss's; it numbers its rows by place.
        keys: (places,) what `row_keys` gave for the row of each place.
        trained_on: how many rows there were when the cells were chosen.
        efforts: by the neighbours asked for, without those for which no effort reaches the aim.
        gone: how many places stood for no row when the efforts were measured.
    """

    index: Any
    keys: Keys
    trained_on: int
    efforts: Mapping[int, Effort]
    gone: int = 0

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return int(self.index.nlist)

    def propose(self, units: Float32s, k: int) -> Rows:
        """The places worth scoring for the k nearest of unit rows: (m, d) -> (m, w), -1 if none."""
        return _propose(self.index, units, self.efforts[min(n for n in self.efforts if n >= k)])

    def extended(self, units: Table, keys: Keys) -> InvertedFile:
        """This one with more rows in its cells: (n, d), (n,)."""
        import faiss

        index = faiss.clone_index(self.index)
        _add(index, units)
        return replace(self, index=index, keys=np.concatenate([self.keys, keys]))

    def measured(
        self, sample: Float32s, truth: Rows, truth_units: Float32s, *, gone: int
    ) -> InvertedFile:
        """This one with the least efforts that find what a sample must find.

        Args:
            sample: (s, d) queries.
            truth: (s, t) places of their nearest rows, the nearest first.
            truth_units: (s, t, d) those rows.
            gone: how many places stand for no row.
        """
        efforts = {}
        for k, due in DUE.items():
            some = slice(_TRUTHS // due)
            found = _least_effort(
                self.index, sample[some], truth[some, :due], truth_units[some, :due], k
            )
            if found is not None:
                efforts[k] = found
        return replace(self, efforts=efforts, gone=gone)


def train(units: Table, keys: Keys) -> InvertedFile:
    """Choose cells and codes on a sample of unit rows (n, d), and put all of them in."""
    import faiss

    rng = np.random.default_rng(SEED)
    count = int(_CELLS_A_ROOT * np.sqrt(len(units)))
    sample = padded(units[some_rows(rng, len(units), count * _TRAINING_ROWS_A_CELL)])
    dim = sample.shape[1]
    kmeans = faiss.Kmeans(
        dim,
        count,
        niter=_ROUNDS,
        seed=SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAINING_ROWS_A_CELL,
    )
    kmeans.train(sample)
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(np.asarray(kmeans.centroids, np.float32))
    codes = dim // _DIMS_A_CODE
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQFastScan(quantizer, dim, count, codes, _BITS_A_CODE, metric)
    # Codes of what a row differs from its cell's centre by are as long, and twice as good.
    index.by_residual = True
    index.train(padded(units[some_rows(rng, len(units), _TRAINING_ROWS_OF_CODES)]))
    _add(index, units)
    return InvertedFile(index, keys, len(units), {})


def row_keys(vectors: npt.NDArray[Any], ids: npt.NDArray[np.str_]) -> Keys:
    """A number that stands for the content and the id of each row: (n, d), (n,) -> (n,)."""
    keys = np.empty(len(vectors), np.uint64)
    for block in row_blocks(*vectors.shape):
        # A float64 beyond float32 becomes infinity, and such a row has no place in an index.
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(vectors[block], np.float32)
        keys[block] = _sums(numbers.view(np.uint32), SEED)
    if len(ids):
        letters = np.ascontiguousarray(ids).view(np.uint32).reshape(len(ids), -1)
        keys ^= _sums(letters, SEED + 1)
    return keys


def padded(units: Table) -> Float32s:
    """Rows with a zero behind them if their dim is odd."""
    missing = -units.shape[1] % _DIMS_A_CODE
    rows = np.ascontiguousarray(units, dtype=np.float32)
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows


def some_rows(rng: np.random.Generator, n: int, count: int) -> Rows:
    """Choose at most so many of n rows, in their order."""
    return np.sort(rng.choice(n, size=min(n, count), replace=False))


def _sums(words: npt.NDArray[np.uint32], seed: int) -> Keys:
    factors = np.random.default_rng(seed).integers(0, 2**63, size=words.shape[1]).astype(np.uint64)
    mixed = words.astype(np.uint64)
    mixed ^= mixed >> np.uint64(15)
    sums: Keys = (mixed * (2 * factors + 1)).sum(axis=1, dtype=np.uint64)
    return sums


def _least_effort(
    index: Any, sample: Float32s, truth: Rows, truth_units: Float32s, k: int
) -> Effort | None:
    due = int(np.ceil(AIM * truth.size))
    widest = min(index.ntotal, k * _WIDEST)
    codes_a_cell = index.ntotal / index.nlist
    cheapest, chosen = np.inf, None
    probes = _least_probes(index, sample, truth_units)
    while (cost := probes * codes_a_cell / _CODES_FOR_A_ROW) < cheapest:
        ranks = _ranks(truth, _propose(index, sample, Effort(probes, widest, 1.0)))
        width = max(2 * k, int(np.partition(ranks.ravel(), due - 1)[due - 1]) + 1)
        if width <= widest and cost + width < cheapest:
            cheapest = cost + width
            chosen = Effort(probes, width, float(np.mean(ranks < width)))
        if probes == index.nlist:
            break
        probes = min(index.nlist, int(probes * _STEP) + 1)
    return chosen


def _least_probes(index: Any, sample: Float32s, truth_units: Float32s) -> int:
    """How many cells hold the due share of the true neighbours: fewer can never be enough."""
    rows, due, dim = truth_units.shape
    cells = index.quantizer.search(padded(truth_units.reshape(rows * due, dim)), 1)[1]
    order = index.quantizer.search(padded(sample), index.nlist)[1]
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(index.nlist)[None, :], axis=1)
    ranks = np.take_along_axis(rank, cells.reshape(rows, due), axis=1)
    return int(np.quantile(ranks, AIM, method="higher")) + 1


def _ranks(truth: Rows, found: Rows) -> Rows:
    """Where each true neighbour stands among what was found, beyond it all if nowhere: (s, t)."""
    ranks = np.full(truth.shape, found.shape[1] + 1)
    for row, (due, given) in enumerate(zip(truth, found, strict=True)):
        _, places, ranked = np.intersect1d(due, given, return_indices=True)
        ranks[row, places] = ranked
    return ranks


def _propose(index: Any, units: Float32s, effort: Effort) -> Rows:
    import faiss

    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = effort.probes
    places: Rows = index.search(padded(units), effort.width, params=parameters)[1]
    return places


def _add(index: Any, units: Table) -> None:
    for start in range(0, len(units), _ADDED_AT_ONCE):
        index.add(padded(units[start : start + _ADDED_AT_ONCE]))
