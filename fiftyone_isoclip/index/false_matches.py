"""How often two random rows are as similar as asked, and from where on that is rare enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.binomial import Share, high_bounds, share_of
from fiftyone_isoclip.index.pairs import check_similarity
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows, Table, cosines, unit_block

AUTO = "auto"
"""Asks for the similarity at which false matches are as rare as asked, in place of a number."""

DEFAULT_FALSE_MATCHES = 1e-4
"""The share of the pairs of random images that may pass for duplicates, unless the user says."""

STEPS: Float64s = np.arange(-10_000, 10_001) / 10_000
"""The similarities at which pairs are counted."""

ALL_ROWS = 10_000
"""Up to so many rows every pair is compared: 50 million, a few seconds."""
DRAWS = 4_000_000
"""Pairs that are drawn of more: enough to tell a rate of 1 in a million from a larger one."""

_BLOCK = 256
_DRAWS_AT_ONCE = 2**18

Progress = Callable[[int, int], object]
"""Called with (rows done, in all)."""


@dataclass(frozen=True, eq=False, slots=True)
class FalseMatches:
    """How many pairs of rows are at or above each similarity.

    The rows are taken for different things. Those that are not, near-copies of each other, count
    as false matches too: then the true rate is lower than the one told.

    Attributes:
        n: rows.
        compared: pairs that were compared: all of them, or those that were drawn.
        drawn: whether they were drawn, independently of each other and with replacement.
        counts: (20001,) how many of them are at or above each of `STEPS`.
    """

    n: int
    compared: int
    drawn: bool
    counts: Rows

    @property
    def pairs(self) -> int:
        """How many pairs the rows make."""
        return self.n * (self.n - 1) // 2

    @property
    def least_rate(self) -> float:
        """The smallest rate, above 0, below which these pairs can show one to be."""
        return float(high_bounds(0, self.compared)) if self.drawn else 1 / self.compared

    def rate_at(self, similarity: float) -> Share:
        """The share of all pairs that is at or above a similarity, known if all were compared.

        Between two of `STEPS` it is that of the lower one, which is not smaller.

        Raises:
            VectorError: if the similarity is outside (-1, 1].
        """
        check_similarity(similarity)
        count = int(self.counts[np.searchsorted(STEPS, similarity, side="right") - 1])
        if self.drawn:
            return share_of(count, self.compared)
        return Share(count / self.compared, count / self.compared, count / self.compared)


def false_match_rates(
    units: Table,
    *,
    all_rows: int = ALL_ROWS,
    draws: int = DRAWS,
    seed: int = 0,
    told: Progress | None = None,
) -> FalseMatches:
    """Count how many pairs of rows are at or above each similarity: (n, d) -> FalseMatches.

    Args:
        units: (n, d) rows with a direction, one for each content: exact copies are no random pairs.
        all_rows: up to how many rows every pair is compared.
        draws: how many pairs are drawn of more.
        seed: decides which.
        told: called with how far it is; what it raises ends the count.

    Raises:
        VectorError: if there are no two rows.
    """
    if len(units) < 2:
        raise VectorError(
            "How often random images are alike is counted over pairs, and there are none of "
            f"{len(units)} image{'s' * (len(units) != 1)}; give two at least, or a similarity."
        )
    count = _count_all if len(units) <= all_rows else _count_drawn
    return count(units, draws, seed, told)


def similarity_for(rates: FalseMatches, false_matches: float) -> float:
    """The lowest of `STEPS` from which at most this share of all pairs is false.

    Where pairs were drawn, it is the upper bound of the share that is at most as large, so that
    the promise holds in at least 97.5 of 100 draws.

    Raises:
        VectorError: if the share is not above 0 and below 1, fewer than it can be told from these
            pairs, or more than it are identical.
    """
    _check_rate(false_matches)
    if rates.least_rate > false_matches:
        kind, more = "pairs they make", "take more images, "
        if rates.drawn:
            kind, more = "pairs drawn of them", ""
        raise VectorError(
            f"At most {one_in(false_matches)} pairs may be false, and of {rates.n:,} different "
            f"images the {rates.compared:,} {kind} cannot show less than "
            f"{one_in(rates.least_rate)}. Allow more, {more}or give a similarity."
        )
    highs = rates.counts / rates.compared
    if rates.drawn:
        highs = high_bounds(rates.counts, rates.compared)
    fitting = np.flatnonzero(highs <= false_matches)
    if not len(fitting):
        raise VectorError(
            f"At most {one_in(false_matches)} pairs may be false, and {one_in(float(highs[-1]))} "
            "have one and the same embedding; no similarity tells them apart."
        )
    return float(STEPS[fitting[0]])


def check_asked(similarity: float | str, false_matches: float | None) -> None:
    """Refuse what `settle_similarity` cannot make a similarity of, before the work.

    Raises:
        VectorError: the similarity is neither a number nor `AUTO`, a number is given together with
            a rate of false matches, or the rate is no share.
    """
    if isinstance(similarity, str) and similarity != AUTO:
        raise VectorError(f"A similarity is a cosine or {AUTO!r}; got {similarity!r}.")
    if false_matches is None:
        return
    if similarity != AUTO:
        raise VectorError(
            f"Similarity {similarity:g} and a rate of false matches, {false_matches:g}, were asked "
            f"for, and one follows from the other; give the rate with similarity {AUTO!r}."
        )
    _check_rate(false_matches)


def settle_similarity(
    units: Table,
    similarity: float | str,
    false_matches: float | None,
    told: Progress | None = None,
) -> tuple[float, FalseMatches | None]:
    """Give a similarity back as a number, with the rates it was chosen by if it was `AUTO`.

    Args:
        units: (n, d) rows, one for each content.
        similarity: a cosine or `AUTO`.
        false_matches: the share of all pairs that may be false; None for the default.
        told: called with how far it is.

    Raises:
        VectorError: as `check_asked`, `false_match_rates` and `similarity_for`.
    """
    check_asked(similarity, false_matches)
    if not isinstance(similarity, str):
        return similarity, None
    rates = false_match_rates(units, told=told)
    allowed = DEFAULT_FALSE_MATCHES if false_matches is None else false_matches
    return similarity_for(rates, allowed), rates


def one_in(rate: float) -> str:
    """A rate in words: 1e-4 -> "1 in 10,000"."""
    return f"1 in {1 / rate:,.0f}" if 0 < rate <= 0.1 else f"{rate:.0%} of all"


def _check_rate(false_matches: float) -> None:
    if not 0.0 < false_matches < 1.0:
        raise VectorError(
            f"A rate of false matches is a share of all pairs above 0 and below 1, such as "
            f"{DEFAULT_FALSE_MATCHES:g}; got {false_matches}."
        )


def _count_all(units: Table, _draws: int, _seed: int, told: Progress | None) -> FalseMatches:
    n = len(units)
    # In float64 and rounded once, as `cosines` does it.
    rows = unit_block(units, slice(None))
    counts = np.zeros(len(STEPS), np.int64)
    for start in range(0, n, _BLOCK):
        block = rows[start : start + _BLOCK]
        scores = (block @ rows[start:].T).astype(np.float32)
        square, beside = scores[:, : len(block)], scores[:, len(block) :]
        counts += _at_or_above(square[np.triu_indices(len(block), 1)])
        counts += _at_or_above(beside.ravel())
        if told is not None:
            told(min(start + _BLOCK, n), n)
    return FalseMatches(n, n * (n - 1) // 2, False, counts)


def _count_drawn(units: Table, draws: int, seed: int, told: Progress | None) -> FalseMatches:
    n, random = len(units), np.random.default_rng(seed)
    counts = np.zeros(len(STEPS), np.int64)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        left, right = random.integers(n, size=size), random.integers(n - 1, size=size)
        right += right >= left  # never a row with itself
        counts += _at_or_above(cosines(units, left, units, right))
        if told is not None:
            told(n * (start + size) // draws, n)
    return FalseMatches(n, draws, True, counts)


def _at_or_above(scores: Float32s) -> Rows:
    """How many scores are at or above each of `STEPS`; they are sorted where they lie."""
    scores.sort()
    return np.asarray(len(scores) - np.searchsorted(scores, STEPS.astype(np.float32)))
