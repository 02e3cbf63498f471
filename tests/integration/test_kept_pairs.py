"""Moving the similarity: the pairs of a search are kept, and give what a fresh search would."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import (
    delete_run,
    embed,
    find_duplicates,
    load_duplicates,
    load_run,
    rename_run,
    say_not_duplicates,
)
from fiftyone_isoclip.dataset.kept_pairs import load_pairs
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.thresholds import BINS, border_pairs
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.projector import Band
from tests.pictures import draw, draw_many, recompress
from tests.planted import FIELD, pair_cosines, plant_copies, sizes

LEAST = 0.85
SIMILARITIES = (0.9, 0.995)


@pytest.fixture
def planted(dataset, fill, pictures, checkpoint):
    """The ids of the planted samples by file name."""
    return plant_copies(dataset, fill, pictures, checkpoint)


@dataclass
class Searches:
    """The similarities for which pairs were searched, and below which that is refused."""

    asked: list[float] = field(default_factory=list)
    refused_below: float = -1.0


@pytest.fixture
def searches(monkeypatch):
    """What `CosineIndex.pairs_above` is asked for from here on."""
    record, search = Searches(), CosineIndex.pairs_above

    def searched(index, similarity, **options):
        record.asked.append(similarity)
        if similarity < record.refused_below:
            raise VectorError("too many pairs")
        return search(index, similarity, **options)

    monkeypatch.setattr(CosineIndex, "pairs_above", searched)
    return record


def files_of(dataset):
    return sorted((side_folder() / "pairs" / str(dataset._doc.id)).glob("*"))


class TestMoving:
    def test_nothing_is_compared_anew_and_the_groups_are_those_of_a_search(
        self, dataset, planted, searches
    ):
        fresh = {s: find_duplicates(dataset, similarity=s, key="fresh") for s in SIMILARITIES}
        assert len({sizes(report) for report in fresh.values()}) == 2
        find_duplicates(dataset, least=LEAST)
        searches.asked.clear()
        for similarity in reversed(SIMILARITIES):
            moved = find_duplicates(dataset, similarity=similarity, least=LEAST)
            assert moved.groups == fresh[similarity].groups
            assert load_duplicates(dataset).groups == fresh[similarity].groups
            assert load_run(dataset, "duplicates").parameters["similarity"] == similarity
        assert searches.asked == []

    def test_no_pair_at_all_is_kept_too(self, dataset, fill, pictures, checkpoint, searches):
        fill(draw_many(pictures, 3))
        embed(dataset, checkpoint, progress=False)
        for similarity in (0.999999, 1.0):
            report = find_duplicates(dataset, similarity=similarity, least=0.999999)
            assert report.groups == ()
        assert searches.asked == [0.999999]

    def test_below_what_is_kept_there_is_a_search(self, dataset, planted, searches):
        fresh = find_duplicates(dataset, similarity=0.9, key="fresh")
        find_duplicates(dataset, similarity=0.99, least=0.95)
        moved = find_duplicates(dataset, similarity=0.9, least=0.9)
        assert moved.groups == fresh.groups
        assert searches.asked == [0.9, 0.95, 0.9]

    def test_where_too_many_are_alike_fewer_are_kept_and_that_is_not_tried_again(
        self, dataset, planted, searches
    ):
        searches.refused_below = 0.89
        find_duplicates(dataset, similarity=0.99, least=0.8)
        assert searches.asked == [0.8, pytest.approx(0.895)]
        assert load_run(dataset, "duplicates").details["least"] == pytest.approx(0.895)
        searches.asked.clear()
        find_duplicates(dataset, similarity=0.9, least=0.8)
        assert searches.asked == []
        with pytest.raises(VectorError):
            find_duplicates(dataset, similarity=0.7, least=0.8)

    def test_a_renamed_run_keeps_its_pairs(self, dataset, planted, searches):
        find_duplicates(dataset, least=LEAST)
        rename_run(dataset, "duplicates", "twins")
        searches.asked.clear()
        find_duplicates(dataset, similarity=0.9, least=LEAST, key="twins")
        assert searches.asked == []

    def test_a_least_that_no_search_can_mean(self, dataset):
        for least in (-1.0, 2, float("nan")):
            with pytest.raises(VectorError, match="cosine above -1"):
                find_duplicates(dataset, least=least)


def _swap_vectors(dataset, planted, pictures, checkpoint):
    one, other = planted["000.png"], planted["005.png"]
    swapped = {one: dataset[other][FIELD], other: dataset[one][FIELD]}
    dataset.set_values(FIELD, swapped, key_field="id")
    return {}


def _remove_one(dataset, planted, pictures, checkpoint):
    dataset.delete_samples([planted["002.png"]])
    return {}


def _add_one(dataset, planted, pictures, checkpoint):
    again = recompress(str(pictures / "006.png"), pictures / "near6.jpg", 80)
    dataset.add_samples([fo.Sample(filepath=again)], progress=False)
    embed(dataset, checkpoint, progress=False)
    return {}


def _uncopy(dataset, planted, pictures, checkpoint):
    """The same sample stands for the first picture, and its copy stands for itself now."""
    draw(pictures / "copy of 0.png", seed=98)
    embed(dataset, checkpoint, progress=False)
    return {}


def _other_band(dataset, planted, pictures, checkpoint):
    return {"band": Band(5, 2)}


@pytest.mark.parametrize("change", [_swap_vectors, _remove_one, _add_one, _uncopy, _other_band])
def test_pairs_of_other_vectors_are_not_used(
    dataset, planted, pictures, checkpoint, searches, change
):
    before = find_duplicates(dataset, similarity=0.97, least=LEAST)
    options = change(dataset, planted, pictures, checkpoint)
    fresh = find_duplicates(dataset, similarity=0.97, key="fresh", **options)
    searches.asked.clear()
    moved = find_duplicates(dataset, similarity=0.97, least=LEAST, **options)
    assert moved.groups == fresh.groups != before.groups
    assert searches.asked == [LEAST]


class TestFiles:
    @pytest.mark.parametrize("damage", ["missing", "empty", "short", "other"])
    def test_a_damaged_file_is_searched_anew(self, dataset, planted, searches, damage):
        fresh = find_duplicates(dataset, similarity=0.97, least=LEAST)
        (path,) = files_of(dataset)
        held = path.read_bytes()
        if damage == "missing":
            path.unlink()
        elif damage == "other":
            with path.open("wb") as file:
                np.savez(file, ids=np.zeros(3))
        else:
            path.write_bytes(held[: len(held) // 2] if damage == "short" else b"")
        searches.asked.clear()
        assert border_pairs(dataset, load_run(dataset, "duplicates")) is None
        moved = find_duplicates(dataset, similarity=0.97, least=LEAST)
        assert moved.groups == fresh.groups
        assert searches.asked == [LEAST]
        assert len(files_of(dataset)) == 1

    def test_no_single_changed_byte_gives_other_pairs(self, dataset, planted):
        find_duplicates(dataset, least=LEAST)
        name = load_run(dataset, "duplicates").details["pairs"]
        (path,) = files_of(dataset)
        held, true = path.read_bytes(), load_pairs(dataset, name)
        for place in np.random.default_rng(0).choice(len(held), 300, replace=False).tolist():
            path.write_bytes(held[:place] + bytes([held[place] ^ 255]) + held[place + 1 :])
            found = load_pairs(dataset, name)
            if found is not None:
                assert (found.digest, found.ids.tolist()) == (true.digest, true.ids.tolist())
                for part in ("n", "left", "right", "similarity", "least", "recall"):
                    same = getattr(found.pairs, part) == getattr(true.pairs, part)
                    assert np.all(same), (place, part)

    def test_a_folder_that_cannot_be_written_costs_time_only(self, dataset, planted, caplog):
        fresh = find_duplicates(dataset, similarity=0.97, key="fresh")
        folder = side_folder() / "pairs" / str(dataset._doc.id)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.write_text("in the way")
        try:
            for _ in range(2):
                report = find_duplicates(dataset, similarity=0.97, least=LEAST)
                assert report.groups == fresh.groups
            assert "searches anew" in caplog.text
            delete_run(dataset, "duplicates")
        finally:
            folder.unlink()

    def test_the_file_goes_with_its_run_and_not_with_that_of_a_clone(self, dataset, planted):
        find_duplicates(dataset, least=LEAST)
        find_duplicates(dataset, similarity=0.9, least=LEAST)
        (path,) = files_of(dataset)
        clone = dataset.clone()
        try:
            assert border_pairs(clone, load_run(clone, "duplicates")) is None
            delete_run(clone, "duplicates")
            assert files_of(dataset) == [path]
        finally:
            clone.delete()
        dataset.delete_run("duplicates")
        assert files_of(dataset) == []

    def test_without_a_least_nothing_is_kept(self, dataset, planted):
        find_duplicates(dataset, least=LEAST)
        find_duplicates(dataset)
        assert files_of(dataset) == []
        assert load_run(dataset, "duplicates").details == {}


class TestCurve:
    def test_every_value_is_what_a_search_would_give(self, dataset, planted):
        """With verdicts, also about identical files."""
        say_not_duplicates(dataset, [planted["000.png"], planted["copy of 0.png"]])
        say_not_duplicates(dataset, [planted["001.png"], planted["copy of 1.png"]])
        say_not_duplicates(dataset, [planted["003.png"], planted["near3.jpg"]])
        find_duplicates(dataset, least=LEAST)
        details = load_run(dataset, "duplicates").details
        curve = details["curve"]
        assert (curve[0][0], curve[-1][0]) == (details["least"], 1.0) == (LEAST, 1.0)
        assert len({images for _, _, images in curve}) > 3
        for similarity, groups, images in (curve[3], curve[12], curve[20], curve[-1]):
            fresh = find_duplicates(dataset, similarity=similarity, key="fresh")
            assert sizes(fresh) == (groups, images), similarity

    @pytest.mark.parametrize("least", [0.99994, 1.0])
    def test_a_least_near_one(self, dataset, planted, least):
        find_duplicates(dataset, similarity=1.0, least=least)
        curve = load_run(dataset, "duplicates").details["curve"]
        steps = [similarity for similarity, _, _ in curve]
        assert steps == sorted(steps)
        assert (steps[0], steps[-1]) == (least, 1.0)
        assert curve[-1][1:] == list(sizes(find_duplicates(dataset, similarity=1.0)))


def test_the_histogram_is_that_of_the_nearest_neighbours(dataset, planted, checkpoint):
    find_duplicates(dataset, least=LEAST)
    found = load_run(dataset, "duplicates").details["histogram"]
    cosines = pair_cosines(dataset, checkpoint)
    best = {}
    for pair, cosine in cosines.items():
        for id_ in pair:
            best[id_] = max(best.get(id_, -1.0), cosine)
    best |= {planted["000.png"]: 1.0, planted["001.png"]: 1.0}  # they have identical files
    values = np.array(list(best.values()), np.float32)
    counts, edges = np.histogram(values, BINS, range=(float(values.min()), 1.0))
    assert found["counts"] == counts.tolist()
    np.testing.assert_allclose(found["edges"], edges, atol=1e-5)
    assert found["sampled"] == found["of"] == len(best) == 12


def test_the_histogram_of_pictures_that_are_all_the_same(dataset, fill, pictures, checkpoint):
    """Two pictures, two files each: every nearest neighbour is at 1, the end of the scale."""
    for number in range(2):
        first = draw(pictures / f"{number}.png", number)
        fill([first, shutil.copyfile(first, pictures / f"copy of {number}.png")])
    embed(dataset, checkpoint, progress=False)
    find_duplicates(dataset, least=0.999)
    found = load_run(dataset, "duplicates").details["histogram"]
    assert sum(found["counts"]) == found["counts"][-1] == 2
    assert found["edges"][-1] == 1.0


class TestAtMost:
    @pytest.mark.parametrize("at_most", [2, 4, 100])
    def test_no_more_go_and_the_next_lower_similarity_would_let_more_go(
        self, dataset, planted, checkpoint, at_most
    ):
        report = find_duplicates(dataset, similarity=0.8, at_most=at_most)
        assert report.n_duplicates <= at_most
        # Asked again, it starts from what was asked and not from what came of it.
        assert load_run(dataset, "duplicates").parameters["similarity"] == 0.8
        assert load_duplicates(dataset).similarity == report.similarity
        lower = [c for c in pair_cosines(dataset, checkpoint).values() if c < report.similarity]
        lower = [cosine for cosine in lower if cosine < report.similarity - 1e-6]
        if at_most == 100:
            assert report.similarity == 0.8
        else:
            more = find_duplicates(dataset, similarity=max(lower) - 1e-7, key="more")
            assert more.n_duplicates > at_most

    def test_a_share_is_of_all_samples(self, dataset, planted):
        share = find_duplicates(dataset, similarity=0.8, at_most=0.3)
        count = find_duplicates(dataset, similarity=0.8, at_most=4, key="count")
        assert dataset.count() == 14
        assert share.groups == count.groups != ()

    def test_identical_files_go_last(self, dataset, planted):
        report = find_duplicates(dataset, similarity=0.8, at_most=1)
        assert report.similarity == 1.0
        assert report.n_exact == report.n_duplicates == 2

    def test_it_needs_no_new_search(self, dataset, planted, searches):
        fresh = find_duplicates(dataset, similarity=LEAST, at_most=3, key="fresh")
        find_duplicates(dataset, similarity=LEAST, least=LEAST)
        searches.asked.clear()
        moved = find_duplicates(dataset, similarity=LEAST, least=LEAST, at_most=3)
        assert moved.groups == fresh.groups
        assert searches.asked == []

    def test_what_is_neither_a_count_nor_a_share(self, dataset):
        for at_most in (0, -1, 1.5, float("nan"), float("inf")):
            with pytest.raises(DatasetError, match="a count from 1, or a share below 1"):
                find_duplicates(dataset, at_most=at_most)


class TestBorder:
    @pytest.mark.parametrize("similarity", [0.9, 0.995])
    def test_the_pairs_are_those_of_brute_force(self, dataset, planted, checkpoint, similarity):
        find_duplicates(dataset, similarity=similarity, least=LEAST)
        above, below = border_pairs(dataset, load_run(dataset, "duplicates"), count=4)
        cosines = pair_cosines(dataset, checkpoint)
        order = sorted((pair for pair in cosines if cosines[pair] >= LEAST), key=cosines.get)
        expected_above = [pair for pair in order if cosines[pair] >= similarity][:4]
        expected_below = [pair for pair in reversed(order) if cosines[pair] < similarity][:4]
        assert expected_above
        assert expected_below
        for found, expected in ((above, expected_above), (below, expected_below)):
            assert [frozenset((pair.left, pair.right)) for pair in found] == expected
            for pair in found:
                cosine = cosines[frozenset((pair.left, pair.right))]
                assert pair.similarity == pytest.approx(cosine, abs=1e-6)

    def test_a_run_that_kept_none(self, dataset, planted):
        find_duplicates(dataset)
        assert border_pairs(dataset, load_run(dataset, "duplicates")) is None
