"""How often random rows are alike: against brute force and scipy's exact binomial bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import find_pairs
from fiftyone_isoclip.index.binomial import high_bounds, low_bounds, share_of
from fiftyone_isoclip.index.false_matches import (
    STEPS,
    FalseMatches,
    false_match_rates,
    one_in,
    similarity_for,
)
from fiftyone_isoclip.index.vectors import unit_rows


def made(n: int, seed: int = 0, dim: int = 12) -> np.ndarray:
    """Rows around a common mean, as CLIP's are, some of them near-copies and two the same."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dim)) + 1.0
    rows[1 : n // 8] = rows[0] + 0.1 * random.standard_normal((n // 8 - 1, dim))
    rows[-1] = rows[-2]
    return unit_rows(rows)


def cosines_of_all(units: np.ndarray) -> np.ndarray:
    """One pair at a time, by the definition."""
    rows = units.astype(np.float64)
    found = [
        rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    ]
    return np.array(found, np.float32)


class TestEveryPair:
    def test_the_rate_is_the_share_of_all_pairs_at_or_above(self) -> None:
        units = made(301)
        cosines, rates = cosines_of_all(units), false_match_rates(units)
        assert rates.compared == rates.pairs == len(cosines) == 301 * 300 // 2
        for similarity in (-0.99, -0.2, 0.0, 0.3, 0.5, 0.87, 0.9, 0.99, 0.9999, 1.0):
            share = (cosines >= np.float32(similarity)).mean()
            found = rates.rate_at(similarity)
            assert found.share == found.low == found.high == share

    def test_it_counts_the_pairs_that_a_search_finds(self) -> None:
        units = made(400, seed=3)
        rates = false_match_rates(units)
        for similarity in (0.8, 0.95, 1.0):
            found = len(find_pairs(units, similarity))
            assert rates.rate_at(similarity).share * rates.pairs == pytest.approx(found, abs=1e-6)

    def test_between_two_steps_the_rate_is_not_told_too_small(self) -> None:
        units = made(300)
        rates = false_match_rates(units)
        assert rates.rate_at(0.40005) == rates.rate_at(0.4)
        assert rates.rate_at(0.4).share > rates.rate_at(0.4001).share

    @pytest.mark.parametrize("allowed", [0.5, 0.1, 0.01, 1e-3, 1e-4])
    def test_the_similarity_is_the_lowest_that_keeps_the_promise(self, allowed: float) -> None:
        units = made(300, seed=1)
        cosines = cosines_of_all(units)
        found = similarity_for(false_match_rates(units), allowed)
        assert (cosines >= np.float32(found)).mean() <= allowed
        assert (cosines >= np.float32(round(found - 1e-4, 4))).mean() > allowed

    def test_blocks_are_put_together_whatever_their_number(self) -> None:
        for n in (2, 255, 256, 257, 513):
            rates = false_match_rates(made(n) if n > 20 else unit_rows(np.eye(2, 5)))
            assert rates.counts[0] == rates.pairs == n * (n - 1) // 2

    def test_how_far_it_is_is_told(self) -> None:
        steps: list[tuple[int, int]] = []
        false_match_rates(made(600), told=lambda *step: steps.append(step))
        assert steps == [(256, 600), (512, 600), (600, 600)]


class TestDrawnPairs:
    def test_the_bounds_are_scipys_exact_ones(self) -> None:
        counts = [0, 1, 7, 499, 999, 1000]
        for count in counts:
            exact = binomtest(count, 1000).proportion_ci(0.95, method="exact")
            found = share_of(count, 1000)
            assert found.share == count / 1000
            assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
        assert low_bounds(counts, 1000).tolist() == [share_of(c, 1000).low for c in counts]
        assert high_bounds(counts, 1000).tolist() == [share_of(c, 1000).high for c in counts]

    def test_the_bounds_hold_the_true_rate_as_often_as_they_say(self) -> None:
        units = made(120, seed=2)
        truth = false_match_rates(units)
        held = {0.6: 0, 0.9: 0}
        for seed in range(200):
            rates = false_match_rates(units, all_rows=0, draws=800, seed=seed)
            assert rates.drawn and rates.compared == 800
            for similarity in held:
                bounds = rates.rate_at(similarity)
                held[similarity] += bounds.low <= truth.rate_at(similarity).share <= bounds.high
        assert min(held.values()) >= 185

    def test_the_promise_holds_in_nearly_every_draw(self) -> None:
        units = made(120, seed=2)
        truth = false_match_rates(units)
        broken = 0
        for seed in range(200):
            rates = false_match_rates(units, all_rows=0, draws=800, seed=seed)
            broken += truth.rate_at(similarity_for(rates, 0.02)).share > 0.02
        assert broken <= 10

    def test_a_row_is_never_compared_with_itself(self) -> None:
        rates = false_match_rates(unit_rows(np.eye(3)), all_rows=0, draws=3000)
        assert rates.rate_at(0.5).share == 0

    def test_every_pair_is_drawn_equally_often(self) -> None:
        # Six pairs of one angle each, 0.1 apart and more.
        angles = np.array([0.0, 0.1, 0.3, 0.7])
        units = unit_rows(np.stack([np.cos(angles), np.sin(angles)], axis=1))
        draws = 60_000
        rates = false_match_rates(units, all_rows=0, draws=draws)
        edges = [0.05, 0.15, 0.25, 0.35, 0.5, 0.65, 0.75]
        counts = np.diff([rates.rate_at(float(np.cos(edge))).share * draws for edge in edges])
        assert counts == pytest.approx(np.full(6, draws / 6), abs=5 * np.sqrt(draws / 6))

    def test_equal_seeds_draw_the_same(self) -> None:
        one, same, other = (
            false_match_rates(made(100), all_rows=0, draws=500, seed=seed).counts
            for seed in (1, 1, 2)
        )
        assert one.tolist() == same.tolist() != other.tolist()


class TestRefusals:
    def test_fewer_pairs_than_can_show_the_rate(self) -> None:
        rates = false_match_rates(made(100))
        with pytest.raises(VectorError, match=r"1 in 10,000.*100 different.*1 in 4,950"):
            similarity_for(rates, 1e-4)
        assert similarity_for(rates, 1 / 4950) > 0.9

    def test_fewer_draws_than_can_show_the_rate(self) -> None:
        rates = false_match_rates(unit_rows(np.eye(50)), all_rows=0, draws=1000)
        least = binomtest(0, 1000).proportion_ci(0.95, method="exact").high
        assert rates.least_rate == pytest.approx(least)
        assert similarity_for(rates, least * 1.001) == 0.0001
        with pytest.raises(VectorError, match=r"1,000 pairs drawn.*Allow more, or give"):
            similarity_for(rates, least * 0.999)

    def test_no_pairs_at_all(self) -> None:
        for n in (0, 1):
            with pytest.raises(VectorError, match=f"none of {n} image"):
                false_match_rates(np.ones((n, 3), np.float32))

    def test_too_many_identical_embeddings(self) -> None:
        rates = false_match_rates(unit_rows(np.ones((200, 3))))
        with pytest.raises(VectorError, match="one and the same embedding"):
            similarity_for(rates, 1e-3)

    @pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
    def test_a_rate_that_is_none(self, rate: float) -> None:
        with pytest.raises(VectorError, match="above 0 and below 1"):
            similarity_for(FalseMatches(2, 1, False, np.ones(len(STEPS), np.int64)), rate)


def test_a_rate_in_words() -> None:
    told = [one_in(rate) for rate in (1e-4, 2.5e-7, 0.1, 0.25)]
    assert told == ["1 in 10,000", "1 in 4,000,000", "1 in 10", "25% of all"]
