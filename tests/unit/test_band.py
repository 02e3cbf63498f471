"""Bands count directions from the rank, and say so when they keep none."""

from __future__ import annotations

import pytest

from fiftyone_isoclip.errors import BandError
from fiftyone_isoclip.projector import WHOLE, Band


def test_a_band_is_the_middle_of_the_rank():
    assert list(range(10))[Band(2, 3).of(10)] == [2, 3, 4, 5, 6]
    assert Band(150, 50).count(512) == 312
    assert WHOLE.of(7) == slice(0, 7)


def test_a_band_reads_what_it_writes():
    assert Band.parse(str(Band(150, 50))) == Band(150, 50)
    assert Band.parse(" 10 / 300 ") == Band(10, 300)
    assert str(Band(150, 50, centred=True)) == "150/50-centred"
    assert Band.parse("150/50-centred") == Band(150, 50, centred=True) != Band(150, 50)


@pytest.mark.parametrize("text", ["", "150", "-1/2", "a/b", "1/2/3", "1.5/2", "1/2-centered"])
def test_other_spellings_are_refused_with_an_example(text):
    with pytest.raises(BandError, match="150/50"):
        Band.parse(text)


def test_a_band_that_keeps_nothing_says_what_to_do():
    with pytest.raises(BandError, match="keeps none of 512 directions; drop fewer than 512"):
        Band(400, 200).of(512)
    with pytest.raises(BandError):
        Band(256, 256).count(512)


@pytest.mark.parametrize("counts", [(-1, 0), (0, -5), (1.5, 0), (True, 0), ("1", 0)])
def test_counts_are_whole_numbers_of_zero_or_more(counts):
    with pytest.raises(BandError, match="whole numbers"):
        Band(*counts)
