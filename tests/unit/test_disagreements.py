"""Where two spaces disagree most, against a search by hand that sorts everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.disagreements import MOST_NEAR, MOST_PAIRS, find_disagreements
from fiftyone_isoclip.evaluation.metrics import ranking


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def spaces():
    """70 rows in two spaces that have half of their directions in common."""
    draws = np.random.default_rng(5)
    shared = draws.standard_normal((70, 6))
    apart = [draws.standard_normal((70, 6)) for _ in range(2)]
    return [unit(np.hstack([shared, each])) for each in apart]


def rank_of(space, query, neighbor):
    """By hand: how many others are more similar, and one."""
    cosines = space.astype(np.float64) @ space[query].astype(np.float64)
    closer = [row for row in range(len(space)) if row != query and cosines[row] > cosines[neighbor]]
    return len(closer) + 1


def brute_force(spaces, queries, count, near):
    """All pairs of a query and another row, each looked at in both spaces; the worst of a pair."""
    worst = {}
    for query, other in itertools.product(queries, range(len(spaces[0]))):
        if query == other:
            continue
        ranks = [rank_of(space, query, other) for space in spaces]
        if min(ranks) > near or ranks[0] == ranks[1]:
            continue
        pair, factor = tuple(sorted((query, other))), max(ranks) / min(ranks)
        found = ((-factor, min(ranks), pair, query), query, other, *ranks)
        worst[pair] = min(worst.get(pair, found), found)
    kinds = ([], [])
    for found in sorted(worst.values()):
        kinds[found[-2] > found[-1]].append(found)
    kept = sorted(kinds[0][:count] + kinds[1][:count])
    return [found[1:] for found in kept]


def told_of(found):
    return list(zip(found.queries, found.neighbors, *found.ranks.T, strict=True))


@pytest.mark.parametrize(("count", "near"), [(5, 3), (500, 10), (20, 1), (500, 99)])
@pytest.mark.parametrize("asked", ["all", "some"])
def test_the_pairs_are_those_of_brute_force(spaces, count, near, asked, monkeypatch):
    monkeypatch.setattr(ranking, "_BLOCK_NUMBERS", 70 * 16)
    queries = np.arange(70) if asked == "all" else np.array([3, 8, 40, 41, 69])
    found = find_disagreements(*spaces, queries, count=count, near=near)
    truth = brute_force(spaces, queries.tolist(), count, near)
    assert told_of(found) == truth
    assert {ranks[2] < ranks[3] for ranks in truth} == {True, False}, "or nothing is tested"
    cosines = [np.sum(s[found.queries] * s[found.neighbors], axis=1) for s in spaces]
    np.testing.assert_allclose(found.similarities, np.stack(cosines, 1), atol=1e-6)


def test_a_pair_that_only_one_space_sees_is_found_by_hand():
    """0 and 1 are the same in the first space, and opposite in the second, where 1 is last."""
    angles = [np.radians([0, 0, 40, 90, 140, 175]), np.radians([0, 180, 40, 90, 140, 175])]
    spaces = [unit(np.stack([np.cos(each), np.sin(each)], 1)) for each in angles]
    found = find_disagreements(*spaces, np.arange(6), count=3, near=1)
    assert told_of(found)[0] == (0, 1, 1, 5)
    assert (found.factors[0], found.nearer_in_first[0]) == (5, True)
    np.testing.assert_allclose(found.similarities[0], [1, -1], atol=1e-6)
    # The other way round it is near in the second: 1 lies beside 5 there.
    first_in_second = told_of(found.take(~found.nearer_in_first))[0]
    assert first_in_second[:2] == (1, 5) and first_in_second[3] == 1


def test_swapping_the_spaces_swaps_the_kinds(spaces):
    found = find_disagreements(*spaces, np.arange(70), count=10)
    swapped = find_disagreements(*spaces[::-1], np.arange(70), count=10)
    assert [(q, n, b, a) for q, n, a, b in told_of(found)] == told_of(swapped)


def test_each_pair_comes_once_and_the_worst_first(spaces):
    found = find_disagreements(*spaces, np.arange(70), count=MOST_PAIRS)
    pairs = [frozenset(pair[:2]) for pair in told_of(found)]
    assert len(pairs) == len(set(pairs)) > 100
    assert (np.diff(found.factors) <= 0).all() and (found.factors > 1).all()


def test_spaces_that_agree_have_no_such_pair(spaces):
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    assert len(find_disagreements(spaces[0], unit(spaces[0] @ turned), np.arange(70))) == 0
    for n in (0, 1):
        assert len(find_disagreements(spaces[0][:n], spaces[1][:n], np.arange(n))) == 0


def test_copies_are_no_disagreement():
    """Rows that are equal in both spaces are all first neighbours of each other, in any order."""
    draws = np.random.default_rng(1)
    spaces = [unit(np.repeat(draws.standard_normal((5, 4)), 8, axis=0)) for _ in range(2)]
    found = find_disagreements(*spaces, np.arange(40), count=MOST_PAIRS, near=7)
    assert len(found) == 0


def test_progress_counts_each_query_once(spaces):
    done = []
    find_disagreements(*spaces, np.arange(30), told=done.append)
    assert sum(done) == 30


def test_what_cannot_be_asked_is_refused(spaces):
    for count in (0, MOST_PAIRS + 1):
        with pytest.raises(IsoClipError, match=f"{count} pairs of each kind were asked for"):
            find_disagreements(*spaces, np.arange(70), count=count)
    for near in (0, MOST_NEAR + 1):
        with pytest.raises(IsoClipError, match=f"{near} nearest neighbours were to be .* 1 to 100"):
            find_disagreements(*spaces, np.arange(70), near=near)
