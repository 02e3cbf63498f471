"""Pairs of samples on which plain CLIP and a band disagree, against brute force over all pairs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip import Band, compare_spaces, embed, fit_centre, load_clip
from fiftyone_isoclip.dataset import (
    delete_run,
    find_duplicates,
    list_runs,
    load_disagreements,
    load_run,
    rename_run,
    rerun,
)
from fiftyone_isoclip.errors import BandError, DatasetError, IsoClipError
from fiftyone_isoclip.index import agreement
from tests.galleries import add_pictures, paint_gallery

FIELD = "clip_embedding"
BAND = Band(3, 2)
NAMES = {"plain": "plain CLIP", "isoclip": "IsoCLIP 3/2"}
Cosines = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return paint_gallery(tmp_path_factory.mktemp("gallery"), 30)


@pytest.fixture
def filled(dataset: fo.Dataset, gallery: list[Path], checkpoint: str) -> fo.Dataset:
    add_pictures(dataset, gallery)
    embed(dataset, checkpoint, progress=False)
    return dataset


def cosines(samples: Any, checkpoint: str, band: Band) -> Cosines:
    """Of the rows M e of the paper in float64: not by way of the compressed map."""
    rows = np.stack(samples.values(FIELD)).astype(np.float64)
    rows = rows @ load_clip(checkpoint, device="cpu").isoclip(band).oblique.T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows @ rows.T)


def rank(table: Cosines, query: int, other: int) -> int:
    return 1 + sum(
        table[query, row] > table[query, other] for row in range(len(table)) if row != query
    )


def brute_force(
    samples: Any, checkpoint: str, near: int, queries: set[str] | None = None
) -> dict[frozenset[str], tuple[float, str]]:
    """Each pair of ids: how many times further down it stands in one space, and the other one."""
    ids = samples.values("id")
    tables = {"plain": cosines(samples, checkpoint, Band())}
    tables["isoclip"] = cosines(samples, checkpoint, BAND)
    worst: dict[frozenset[str], tuple[float, int, int, str]] = {}
    for query, other in itertools.permutations(range(len(ids)), 2):
        if queries is not None and ids[query] not in queries:
            continue
        ranks = {name: rank(table, query, other) for name, table in tables.items()}
        nearer = min(ranks, key=lambda name: ranks[name])
        if ranks[nearer] <= near and len(set(ranks.values())) == 2:
            factor = max(ranks.values()) / ranks[nearer]
            pair, found = frozenset((ids[query], ids[other])), (factor, -ranks[nearer], -query)
            worst[pair] = max(worst.get(pair, (0.0, 0, 0, "")), (*found, NAMES[nearer]))
    return {pair: (found[0], found[-1]) for pair, found in worst.items()}


def factors_of(truth: dict[frozenset[str], tuple[float, str]], space: str) -> list[float]:
    return sorted((factor for factor, nearer in truth.values() if nearer == space), reverse=True)


@pytest.mark.parametrize(("count", "near"), [(4, 3), (500, 10)])
def test_the_pairs_are_those_of_brute_force(
    filled: fo.Dataset, checkpoint: str, count: int, near: int
) -> None:
    report = compare_spaces(filled, band=BAND, count=count, near=near, progress=False)
    truth = brute_force(filled, checkpoint, near)
    pairs = report.found.pairs
    by_kind = {
        NAMES["plain"]: [pair for pair in pairs if pair.nearer_in_plain],
        NAMES["isoclip"]: [pair for pair in pairs if not pair.nearer_in_plain],
    }
    for space, found in by_kind.items():
        assert found, "or nothing is tested"
        # By their factors, because equal ones may come in another order in float64.
        assert [pair.factor for pair in found] == pytest.approx(factors_of(truth, space)[:count])
        for pair in found:
            factor, _ = truth[frozenset((pair.query, pair.neighbor))]
            assert pair.factor == pytest.approx(factor)
    assert len({frozenset((pair.query, pair.neighbor)) for pair in pairs}) == len(pairs)
    ids = filled.values("id")
    plain, isoclip = (cosines(filled, checkpoint, band) for band in (Band(), BAND))
    for pair in pairs[:5]:
        query, other = ids.index(pair.query), ids.index(pair.neighbor)
        assert pair.plain.rank == rank(plain, query, other)
        assert pair.isoclip.rank == rank(isoclip, query, other)
        assert pair.plain.similarity == pytest.approx(plain[query, other], abs=1e-5)
        assert pair.isoclip.similarity == pytest.approx(isoclip[query, other], abs=1e-5)
    assert "not which one is right" in str(report)


def test_the_view_shows_partners_side_by_side_and_the_most_disputed_first(
    filled: fo.Dataset,
) -> None:
    report = compare_spaces(filled, band=BAND, count=5, progress=False)
    expected: list[str] = []
    for pair in report.found.pairs:
        expected += [name for name in (pair.query, pair.neighbor) if name not in expected]
    for view in (report.view, filled.load_saved_view("disagreements")):
        assert view.values("id") == expected
    names = [f"disagreements_{part}" for part in ("place", "factor", "nearer_in")]
    assert filled.first().has_field(names[0])
    first = report.found.pairs[0]
    shown = filled[first.neighbor]
    assert shown[names[0]] == 1
    assert shown[names[1]] == pytest.approx(first.factor)
    assert shown[names[2]] == NAMES["plain" if first.nearer_in_plain else "isoclip"]
    rest = filled.exclude(expected).values(names[1])
    assert rest == [None] * (30 - len(expected))


def test_a_run_remembers_the_report_and_is_undone(filled: fo.Dataset) -> None:
    schema = filled.get_field_schema().keys()
    report = compare_spaces(filled, band=BAND, count=5, near=4, key="apart", progress=False)
    assert load_disagreements(filled, "apart") == report
    run = load_run(filled, "apart", "disagreements")
    assert (run.band, run.parameters["count"], run.parameters["near"]) == ("3/2", 5, 4)
    assert run.counts["pairs"] == len(report.found.pairs)
    shown = report.view.values("id")
    rename_run(filled, "apart", "called")
    assert load_disagreements(filled, "called").view.values("id") == shown
    delete_run(filled, "called")
    assert filled.get_field_schema().keys() == schema
    assert not filled.has_saved_view("called") and not list_runs(filled)


def test_a_search_for_duplicates_beside_it_keeps_its_pairs(filled: fo.Dataset) -> None:
    report = compare_spaces(filled, band=BAND, progress=False)
    find_duplicates(filled, similarity=0.9)
    assert load_disagreements(filled) == report


def test_a_run_is_found_again_with_new_pictures(
    filled: fo.Dataset, checkpoint: str, tmp_path: Path
) -> None:
    compare_spaces(filled, band=BAND, count=6, near=5, queries=20, progress=False)
    add_pictures(filled, paint_gallery(tmp_path / "more", 34)[30:])
    rerun(filled, "disagreements")
    run = load_run(filled, "disagreements")
    assert (run.counts["compared"], run.counts["queries"], run.band) == (34, 20, "3/2")
    found = load_disagreements(filled).found
    assert found.near == 5
    asked = {filled.values("id")[row] for row in agreement.pick_queries(34, 20)}
    truth = brute_force(filled, checkpoint, 5, asked)
    factors = [pair.factor for pair in found.pairs if pair.nearer_in_plain]
    assert factors == pytest.approx(factors_of(truth, NAMES["plain"])[:6])


def test_a_view_is_compared_by_itself(filled: fo.Dataset, checkpoint: str) -> None:
    view = filled.limit(12)
    report = compare_spaces(view, band=BAND, near=2, progress=False)
    truth = brute_force(view, checkpoint, 2)
    assert len(report.found.pairs) == len(truth)
    assert (report.found.n_images, report.found.near) == (12, 2)
    assert compare_spaces(view, band=BAND, near=99, progress=False).found.near == 11


def test_a_centred_band_is_compared_from_the_fields_centre(filled: fo.Dataset) -> None:
    with pytest.raises(DatasetError, match="centre"):
        compare_spaces(filled, band="3/2-centred", progress=False)
    fit_centre(filled)
    centred = compare_spaces(filled, band="3/2-centred", progress=False)
    assert centred.found.band == "3/2-centred"
    assert centred.found.pairs != compare_spaces(filled, band=BAND, progress=False).found.pairs


def test_plain_clip_and_itself_have_no_such_pair(filled: fo.Dataset) -> None:
    report = compare_spaces(filled, band="0/0", progress=False)
    assert report.found.pairs == ()
    assert "rank the 10 nearest neighbours of 30 queries among 30 images alike" in str(report)
    assert len(report.view) == 0


def test_the_page_shows_the_pictures(filled: fo.Dataset, gallery: list[Path], tmp_path) -> None:
    page = tmp_path / "pairs.html"
    report = compare_spaces(filled, band=BAND, count=3, report=page, progress=False)
    told = page.read_text()
    assert report.found.verdict in told
    assert "Near in plain CLIP, far in IsoCLIP 3/2" in told
    assert "Near in IsoCLIP 3/2, far in plain CLIP" in told
    pair = report.found.pairs[0]
    name = Path(filled[pair.neighbor].filepath).name
    assert f"{name}: plain CLIP number {pair.plain.rank}, cosine" in told
    assert told.count("<img") == 2 * len(report.found.pairs)
    assert str(gallery[0].parent) not in told


def test_what_cannot_be_compared_is_said(filled: fo.Dataset, tmp_path: Path) -> None:
    for wrong in ({"count": 0}, {"count": 501}, {"near": 0}, {"near": 101}, {"queries": 0}):
        with pytest.raises(IsoClipError, match=r"asked for|looked at"):
            compare_spaces(filled, progress=False, **wrong)
    with pytest.raises(BandError):
        compare_spaces(filled, band="99/99", progress=False)
    with pytest.raises(DatasetError, match="two images with embeddings"):
        compare_spaces(filled.limit(1), progress=False)
    with pytest.raises(IsoClipError, match="does not exist"):
        compare_spaces(filled, report=tmp_path / "nowhere" / "page.html", progress=False)
    filled.add_sample_field("taken_place", fo.IntField)
    with pytest.raises(DatasetError, match="taken_place"):
        compare_spaces(filled, key="taken", progress=False)
    assert not list_runs(filled)
