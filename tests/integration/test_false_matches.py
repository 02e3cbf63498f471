"""Duplicates by a rate of false matches: the similarity is the one that brute force gives."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.dataset import (
    duplicate_search,
    embed,
    find_duplicates,
    fit_centre,
    load_duplicates,
    load_run,
    rerun,
    say_not_duplicates,
)
from fiftyone_isoclip.dataset.centres import read_centre
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.files import content_hash
from fiftyone_isoclip.index import false_matches
from fiftyone_isoclip.projector import WHOLE, Band
from tests.pictures import recompress
from tests.planted import FIELD, members, pair_cosines, plant_copies

RATE = 0.05
"""Of the 66 pairs of twelve contents that is three."""


@pytest.fixture
def planted(dataset, fill, pictures, checkpoint):
    """The ids of the planted samples by file name."""
    return plant_copies(dataset, fill, pictures, checkpoint)


def similarity_by_hand(dataset, checkpoint, rate, band=None):
    """The lowest similarity of four decimals that at most this share of the pairs reaches."""
    cosines = np.array([*pair_cosines(dataset, checkpoint, band).values()], np.float32)
    steps = np.arange(-9_999, 10_001) / 10_000
    shares = (cosines[:, None] >= steps.astype(np.float32)).mean(axis=0)
    return float(steps[np.argmax(shares <= rate)]), len(cosines)


@pytest.mark.parametrize("band", [None, WHOLE, Band(3, 2)])
def test_the_groups_are_those_at_the_similarity_of_brute_force(dataset, planted, checkpoint, band):
    similarity, n_pairs = similarity_by_hand(dataset, checkpoint, RATE, band)
    assert n_pairs == 66
    report = find_duplicates(dataset, similarity="auto", false_matches=RATE, band=band)
    fresh = find_duplicates(dataset, similarity=similarity, band=band, key="fresh")
    assert report.similarity == similarity
    assert members(report) == members(fresh)
    reached = sum(c >= similarity for c in pair_cosines(dataset, checkpoint, band).values())
    assert report.false_matches == reached / 66 <= RATE
    assert fresh.false_matches is None


def test_a_centred_band_is_judged_from_its_centre(dataset, planted, checkpoint):
    fit_centre(dataset)
    centre = read_centre(dataset, FIELD).numbers
    report = find_duplicates(dataset, similarity="auto", false_matches=RATE, band="2/1-centred")
    first = {}
    for id_, path in zip(*dataset.values(["id", "filepath"]), strict=True):
        first.setdefault(content_hash(path), id_)
    stored = dict(zip(*dataset.values(["id", FIELD]), strict=True))
    plain = np.stack([stored[id_] for id_ in first.values()]).astype(np.float64)
    plain = plain / np.linalg.norm(plain, axis=1, keepdims=True) - centre
    rows = plain @ load_clip(checkpoint).isoclip(Band(2, 1)).matrix.astype(np.float64).T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    assert len(cosines) == 66
    assert (cosines >= report.similarity).mean() == report.false_matches <= RATE
    assert (cosines >= report.similarity - 1e-4).mean() > RATE


def test_identical_files_are_no_random_pairs(dataset, planted, fill, pictures, checkpoint):
    """Twenty more copies of a file change neither the pairs nor the similarity."""
    before = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    source = pictures / "copy of 0.png"
    copies = [pictures / f"again {n}.png" for n in range(20)]
    for copy in copies:
        copy.write_bytes(source.read_bytes())
    fill(copies)
    embed(dataset, checkpoint, progress=False)
    after = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    assert after.similarity == before.similarity
    assert after.n_duplicates == before.n_duplicates + 20


def test_the_run_keeps_what_was_asked_and_what_it_became(dataset, planted, checkpoint):
    report = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    run = load_run(dataset, "duplicates")
    assert run.parameters["similarity"] == "auto"
    assert run.parameters["false_matches"] == RATE
    assert run.details["similarity"] == report.similarity
    assert run.details["false_matches"]["compared"] == run.details["false_matches"]["pairs"] == 66
    loaded = load_duplicates(dataset)
    assert (loaded.similarity, loaded.false_matches) == (report.similarity, report.false_matches)
    share = f"1 in {1 / report.false_matches:,.0f} pairs of different files"
    assert f"at similarity {report.similarity:g}, which {share} reach" in str(loaded)


def test_a_rerun_finds_the_similarity_anew(dataset, planted, fill, pictures, checkpoint):
    """Copies that came since make the old similarity too low for the rate."""
    find_duplicates(dataset, similarity="auto", false_matches=RATE, band="1/1")
    before = load_run(dataset, "duplicates")
    source = dataset[planted["near2.jpg"]].filepath
    fill([recompress(source, pictures / f"later {q}.jpg", q) for q in (80, 40, 30, 20)])
    after = rerun(dataset, "duplicates", progress=False).run
    similarity, n_pairs = similarity_by_hand(dataset, checkpoint, RATE, Band(1, 1))
    assert n_pairs == 120
    assert after.parameters == before.parameters
    assert after.details["similarity"] == similarity > before.details["similarity"]


def test_kept_pairs_serve_the_same_rate_and_a_moved_similarity(dataset, planted, monkeypatch):
    """None of the later searches compares anything: the first one left room below."""
    first = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    least = load_run(dataset, "duplicates").details["least"]
    assert least == pytest.approx(first.similarity - 0.05)
    fresh = find_duplicates(dataset, similarity=first.similarity - 0.02, key="fresh")
    monkeypatch.setattr(
        duplicate_search.CosineIndex, "pairs_above", lambda *_, **__: pytest.fail("compared anew")
    )
    assert find_duplicates(dataset, similarity="auto", false_matches=RATE).groups == first.groups
    moved = find_duplicates(dataset, similarity=first.similarity - 0.02, least=least)
    assert moved.groups == fresh.groups


def test_verdicts_leave_the_rate_as_it_is(dataset, planted):
    """Images that a person said are different are just what the rate is about."""
    before = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    group = before.groups[0]
    say_not_duplicates(dataset, [group.keeper, group.copies[-1].id])
    assert find_duplicates(dataset, similarity="auto", false_matches=RATE).similarity == (
        before.similarity
    )


def test_at_most_raises_the_similarity_and_the_rate_told_is_that_of_the_groups(
    dataset, planted, checkpoint
):
    free = find_duplicates(dataset, similarity="auto", false_matches=0.2)
    report = find_duplicates(dataset, similarity="auto", false_matches=0.2, at_most=3)
    assert report.n_duplicates <= 3 < free.n_duplicates
    cosines = np.array([*pair_cosines(dataset, checkpoint).values()])
    assert report.false_matches >= (cosines >= report.similarity).mean()
    assert report.false_matches < free.false_matches


def test_many_images_are_judged_by_draws(dataset, planted, checkpoint, monkeypatch):
    monkeypatch.setattr(false_matches.false_match_rates, "__kwdefaults__", {
        **false_matches.false_match_rates.__kwdefaults__, "all_rows": 5, "draws": 5000,
    })  # fmt: skip
    report = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    kept = load_run(dataset, "duplicates").details["false_matches"]
    truth = (np.array([*pair_cosines(dataset, checkpoint).values()]) >= report.similarity).mean()
    assert (kept["compared"], kept["pairs"]) == (5000, 66)
    assert kept["low"] < truth < kept["high"] == report.false_matches <= RATE


class TestRefusals:
    def test_too_few_images_for_the_rate(self, dataset, planted):
        with pytest.raises(VectorError, match=r"1 in 10,000.*12 different images.*1 in 66"):
            find_duplicates(dataset, similarity="auto")
        assert not dataset.list_runs()

    def test_none_at_all(self, dataset, planted):
        with pytest.raises(VectorError, match="none of 0 images"):
            find_duplicates(dataset.limit(0), similarity="auto")

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"similarity": 0.9, "false_matches": 1e-3}, "one follows from the other"),
            ({"false_matches": 1e-3}, "one follows from the other"),
            ({"similarity": "high"}, "a cosine or 'auto'"),
            ({"similarity": "auto", "false_matches": 1.5}, "above 0 and below 1"),
        ],
    )
    def test_what_has_no_meaning(self, dataset, planted, options, sentence):
        with pytest.raises(VectorError, match=sentence):
            find_duplicates(dataset, **options)
        assert not dataset.list_runs()


def test_contents_are_told_apart_by_bytes(planted, pictures):
    """What the tests above count on: twelve different files among fourteen."""
    assert len({content_hash(path) for path in pictures.iterdir()}) == len(planted) - 2 == 12
