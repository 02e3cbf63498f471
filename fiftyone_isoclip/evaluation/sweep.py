"""Every band of a checkpoint scored on one set of labelled images, by Gram matrices that grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows
from fiftyone_isoclip.projector import Band, Spectrum

Told = Callable[[int], Any] | None
"""Called with how many more bands are done."""

FEWEST_DIRECTIONS = 2
"""With a single direction every cosine is 1 or -1."""

_STEPS = 32
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Plane:
    """The mAP of every band, in [0, 1]: ``scores[t, b]`` of ``Band(drops[t], drops[b])``.

    Shapes: ``drops`` (d,) counts of directions from 0 up, ``scores`` (d, d), NaN where a band keeps
    fewer than two directions. All bands are ``centred`` or none is.
    """

    drops: Rows
    scores: Float64s
    centred: bool

    @property
    def n_bands(self) -> int:
        """How many bands were scored."""
        return int(np.count_nonzero(~np.isnan(self.scores)))

    @property
    def best(self) -> Band:
        """The band with the highest score; of equal ones, that which drops least at the top."""
        top, bottom = np.unravel_index(int(np.nanargmax(self.scores)), self.scores.shape)
        return Band(int(self.drops[top]), int(self.drops[bottom]), self.centred)

    def score(self, band: Band) -> float:
        """The score of a band of this plane."""
        top, bottom = np.searchsorted(self.drops, [band.drop_top, band.drop_bottom])
        return float(self.scores[top, bottom])


@dataclass(frozen=True, eq=False)
class Ranking:
    """What is ranked: rows of the gallery (m,) for queries (n,), which are rows of it themselves.

    ``labels`` (m,) are numbers of classes. A query never finds itself.
    """

    queries: Rows
    labels: Rows

    @property
    def relevant(self) -> npt.NDArray[np.bool_]:
        """Which rows have each query's label, its own left out: (n, m)."""
        found: npt.NDArray[np.bool_] = self.labels[self.queries, None] == self.labels
        found[np.arange(len(self.queries)), self.queries] = False
        return found


def default_step(rank: int) -> int:
    """How many directions lie between two bands of a plane: about 32 steps from end to end."""
    return max(1, -(-rank // _STEPS))


def count_bands(rank: int, step: int) -> int:
    """How many bands a plane has."""
    return sum(len(_drops(rank - top, step)) for top in _drops(rank, step).tolist())


def sweep(
    spectrum: Spectrum,
    units: Float32s,
    ranking: Ranking,
    *,
    step: int,
    centre: Float64s | None = None,
    told: Told = None,
) -> Plane:
    """Score every band on plain embeddings (m, r), rows of length 1, in float64.

    The inner products of a band are those of the band with ``step`` directions less plus a product
    of that many columns, so that a band costs a fraction of what it would alone. Equally similar
    rows are ranked with the relevant ones last. ``centre`` (r,) is taken off the rows first.
    """
    rank = spectrum.rank
    drops = _drops(rank, step)
    scores = np.full((len(drops), len(drops)), np.nan)
    whole = _Directions.of(spectrum, units if centre is None else units - centre)
    irrelevant = ~ranking.relevant
    for row, top in enumerate(drops.tolist()):
        growing = _Growing(whole, ranking.queries, top)
        for bottom in _drops(rank - top, step)[::-1].tolist():
            growing.widen(rank - bottom)
            scores[row, bottom // step] = mean_average_precision(growing.cosines(), irrelevant)
            if told is not None:
                told(1)
    return Plane(drops, scores, centre is not None)


def _drops(available: int, step: int) -> Rows:
    """How many of the available directions to drop so that a band is left: (d,) counts."""
    return np.arange(0, available - FEWEST_DIRECTIONS + 1, step)


@dataclass(frozen=True, eq=False)
class _Directions:
    """Rewritten embeddings as sums over directions: ``theta z~ = sum_j w_j c_j`` over a band.

    Shapes: ``parts`` (m, rank) are ``c = u^T D^-1 X^T e``, ``overlaps`` (rank, rank) the inner
    products of ``w_j = X D u_j``, which are not orthogonal.
    """

    parts: Float64s
    overlaps: Float64s

    @classmethod
    def of(cls, spectrum: Spectrum, embeddings: npt.NDArray[np.floating[Any]]) -> _Directions:
        left, scale, _ = spectrum.image.decomposition
        directions = spectrum.image_directions
        spread = left @ (scale[:, None] * directions)
        inverse = left @ (directions / scale[:, None])
        return cls(embeddings.astype(np.float64) @ inverse, spread.T @ spread)


class _Growing:
    """The inner products of queries and gallery in a band that begins at ``top`` and grows."""

    def __init__(self, whole: _Directions, queries: Rows, top: int) -> None:
        self.whole, self.queries, self.top, self.end = whole, queries, top, top
        self.products = np.zeros((len(queries), len(whole.parts)))
        self.squares = np.zeros(len(whole.parts))

    def widen(self, end: int) -> None:
        """Take in the directions up to ``end``: two products of as many columns."""
        kept, new = slice(self.top, self.end), slice(self.end, end)
        parts, overlaps = self.whole.parts, self.whole.overlaps
        held, added = parts[:, kept] @ overlaps[kept, new], parts[:, new]
        among = added @ overlaps[new, new]
        self.products += (held + among)[self.queries] @ added.T
        self.products += added[self.queries] @ held.T
        self.squares += np.einsum("ij,ij->i", added, 2 * held + among)
        self.end = end

    def cosines(self) -> Float64s:
        """Cosines, (n, m); a query's own is below all others."""
        lengths = np.sqrt(np.maximum(self.squares, _TINY))
        found = self.products / lengths
        found /= lengths[self.queries, None]
        found[np.arange(len(self.queries)), self.queries] = -2
        return found


def mean_average_precision(cosines: Float64s, irrelevant: npt.NDArray[np.bool_]) -> float:
    """The mean over queries that have something relevant, of cosines (n, m), -2 to their own.

    Sorts numbers of 32 bits instead of ranking: the cosine to 4e-9, and in the last bit whether
    its row is irrelevant.
    """
    n, m = cosines.shape
    keys = ((cosines + 2) * 2**28).astype(np.int32) << 1
    keys |= irrelevant
    keys.sort(axis=1)
    places = np.flatnonzero((keys & 1) == 0)
    query, from_end = places // m, m - places % m
    n_relevant = np.bincount(query, minlength=n)
    order = np.cumsum(n_relevant)[query] - np.arange(len(places))
    precisions = np.bincount(query, order / from_end, minlength=n)
    scored = n_relevant > 0
    return float(np.mean(precisions[scored] / n_relevant[scored]))
