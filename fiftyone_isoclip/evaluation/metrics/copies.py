"""Copy detection: whether the original of an edited picture is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from fiftyone_isoclip.evaluation.metrics.ranking import Told, similarity_blocks
from fiftyone_isoclip.evaluation.metrics.retrieval import QueryScores, score_retrieval
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows


@dataclass(frozen=True, slots=True)
class Matches:
    """What all pairs of query and gallery at or above a similarity would be as copies.

    ``precision`` is the share of these ``pairs`` that are copies (NaN if there are none),
    ``recall`` the share of all copies that are among them, ``false_queries`` the share of queries
    with at least one pair that is none.
    """

    similarity: float
    pairs: int
    precision: float
    recall: float
    false_queries: float


@dataclass(frozen=True, eq=False, slots=True)
class CopyScores:
    """Scores of each query (n,), and ``micro_average_precision`` over the queries' best matches.

    ``matches`` is None without a similarity.
    """

    queries: QueryScores
    micro_average_precision: float
    matches: Matches | None


def score_copies(
    queries: Float32s,
    gallery: Float32s,
    query_groups: Rows,
    gallery_groups: Rows,
    *,
    similarity: float | None = None,
    told: Told = None,
) -> CopyScores:
    """Score copy detection: unit rows (n, d), (m, d), with what each is a copy of.

    Of the same group are copies; a gallery row that no query is a copy of is a distractor, and so
    is a query that nothing in the gallery is a copy of. For the micro-average precision every
    query gives its best match and how similar it is; all queries' matches stand in one order, as
    if one threshold served all (Douze et al., *The 2021 Image Similarity Dataset and Challenge*,
    section 4.1); equally similar ones count at once; a query whose best match is wrong is missed.

    Args:
        queries: unit rows (n, d).
        gallery: unit rows (m, d), at least one.
        query_groups: (n,) numbers.
        gallery_groups: (m,) numbers.
        similarity: also count what all pairs at or above it would be.
        told: called with how many more queries are done.

    Raises:
        VectorError: the sides do not fit together.
    """
    scores = score_retrieval(queries, gallery, query_groups, gallery_groups, told=told)
    best, right = np.zeros(len(queries)), np.zeros(len(queries), bool)
    counted = np.zeros(4, np.int64)
    for block, similarities in similarity_blocks(queries, gallery):
        copies = query_groups[block, None] == gallery_groups
        first = similarities.argmax(axis=1)[:, None]
        best[block] = np.take_along_axis(similarities, first, axis=1)[:, 0]
        right[block] = np.take_along_axis(copies, first, axis=1)[:, 0]
        if similarity is not None:
            counted += _count_matches(similarities >= similarity, copies)
    return CopyScores(
        queries=scores,
        micro_average_precision=_micro_average_precision(best, right, scores.n_scored),
        matches=None if similarity is None else _matches(similarity, counted, len(queries)),
    )


def _micro_average_precision(
    best: Float64s, right: np.ndarray[tuple[int], np.dtype[np.bool_]], n_with_copy: int
) -> float:
    """The area under precision over recall of the queries' best matches; NaN without any copy."""
    if not n_with_copy:
        return float("nan")
    if not right.any():
        return 0.0
    # scikit-learn's recall is of the right matches; a query whose copy is not first has none.
    return float(average_precision_score(right, best) * right.sum() / n_with_copy)


def _count_matches(
    matched: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    copies: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
) -> Rows:
    """How many pairs match, are copies, are both, and how many queries have a false one."""
    counts = [matched, copies, matched & copies, (matched & ~copies).any(axis=1)]
    return np.array([np.count_nonzero(each) for each in counts])


def _matches(similarity: float, counted: Rows, n_queries: int) -> Matches:
    pairs, copies, both, false_queries = (int(count) for count in counted)
    return Matches(
        similarity=similarity,
        pairs=pairs,
        precision=both / pairs if pairs else float("nan"),
        recall=both / copies if copies else float("nan"),
        false_queries=false_queries / n_queries if n_queries else float("nan"),
    )
