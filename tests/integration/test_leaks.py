"""Leaks between splits and datasets, against all pairs of stored vectors."""

from __future__ import annotations

import itertools
import shutil
import uuid

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import delete_run, embed, find_leaks, load_leaks, load_run
from fiftyone_isoclip.dataset.leak_report import field_names
from fiftyone_isoclip.dataset.reruns import rerun
from fiftyone_isoclip.dataset.staleness import find_staleness
from fiftyone_isoclip.dataset.verdicts import say_not_duplicates
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import WHOLE
from tests.pictures import draw, draw_many, recompress

FIELD = "clip_embedding"
SIMILARITY = 0.995


def cosines(checkpoint, *datasets, band=None):
    """All cosines between the stored embeddings: the oracle, by id."""
    ids = [id_ for each in datasets for id_ in each.values("id")]
    stored = np.concatenate([np.stack(each.values(FIELD)) for each in datasets])
    rows = load_clip(checkpoint).isoclip(band)(stored).astype(np.float64)
    table = rows @ rows.T
    return {a: dict(zip(ids, row, strict=True)) for a, row in zip(ids, table, strict=True)}


def crossing(truth, split_of, similarity=SIMILARITY):
    """All pairs of ids in different splits, by definition."""
    return {
        frozenset((a, b)): truth[a][b]
        for a, b in itertools.combinations(split_of, 2)
        if split_of[a] != split_of[b] and truth[a][b] >= similarity
    }


@pytest.fixture
def gallery(dataset, fill, pictures, checkpoint):
    """12 pictures in three splits and 4 in none, with near and exact copies; -> ids by name."""
    base = draw_many(pictures, 12)
    near = {f"near{n}": recompress(base[n], pictures / f"near{n}.jpg", 95) for n in (0, 1, 2, 3)}
    exact = {f"same{n}": shutil.copyfile(base[n], pictures / f"same{n}.png") for n in (0, 4, 5)}
    names = [*map(str, range(12)), *near, *exact]
    ids = dict(zip(names, fill([*base, *near.values(), *exact.values()]), strict=True))
    embed(dataset, checkpoint, progress=False)
    splits = {"train": ["0", "1", "2", "3", "4", "8", "near3"], "val": ["near0", "near1", "5", "9"]}
    splits["test"] = ["same0", "near2", "same4", "10"]
    for tag, held in splits.items():
        dataset.select([ids[name] for name in held]).tag_samples(tag)
    return ids


def tags_of(dataset):
    return {sample.id: sample.tags[0] for sample in dataset.match_tags(["train", "val", "test"])}


@pytest.fixture
def second():
    """Another empty dataset."""
    made = fo.Dataset(f"second-{uuid.uuid4().hex}")
    yield made
    made.delete()


class TestPairs:
    @pytest.mark.parametrize(("similarity", "band"), [(0.9, None), (SIMILARITY, WHOLE)])
    def test_matrix_partners_and_drops_are_those_of_brute_force(
        self, dataset, gallery, checkpoint, band, similarity
    ):
        report = find_leaks(dataset, similarity=similarity, band=band)
        split_of = tags_of(dataset)
        truth = crossing(cosines(checkpoint, dataset, band=band), split_of, similarity)
        assert report.splits == ("train", "val", "test")
        for one, other in itertools.permutations(report.splits, 2):
            here = [p for p in truth if {split_of[id_] for id_ in p} == {one, other}]
            images = {id_ for pair in here for id_ in pair if split_of[id_] == one}
            assert report.matrix.pairs_of(one, other) == len(here)
            assert report.matrix.images_of(one, other) == len(images)
            assert {p.one.id for p in report.pairs(one, other)} == images
            cell = {id_ for pair in here for id_ in pair}
            assert set(report.cell_view(one, other).values("id")) == cell
        assert report.n_pairs == len(truth) > 0
        leaked = {id_ for pair in truth for id_ in pair}
        assert set(report.view.values("id")) == leaked
        assert (report.n_leaked, report.n_compared, report.n_unsplit) == (len(leaked), 15, 4)
        gone = set(report.drop_view.values("id"))
        assert len(gone) == report.n_drop
        assert all(pair & gone for pair in truth)
        assert not gone & {id_ for id_, split in split_of.items() if split == "test"}
        for sample in report.view:
            mates = {next(iter(p - {sample.id})): s for p, s in truth.items() if sample.id in p}
            assert sample.leaks_split == split_of[sample.id]
            assert set(sample.leaks_with) == {split_of[mate] for mate in mates}
            assert set(sample.leaks_partners) == set(mates)
            assert sample.leaks_partner_splits == [split_of[m] for m in sample.leaks_partners]
            assert sample.leaks_partner_similarities == pytest.approx(
                [mates[mate] for mate in sample.leaks_partners], abs=1e-5
            )
            assert sample.leaks_partner == sample.leaks_partners[0]
            assert sample.leaks_partner_path == dataset[sample.leaks_partner].filepath
            assert sample.leaks_similarity == pytest.approx(max(mates.values()), abs=1e-5)
            assert sample.leaks_drop == (sample.id in gone)
        assert dataset.match(~fo.ViewField("leaks_split").exists()).count() == 19 - len(leaked)

    def test_pairs_come_nearest_first_in_pages_with_both_sides(self, dataset, gallery, checkpoint):
        report = find_leaks(dataset, similarity=0.5)
        truth, split_of = cosines(checkpoint, dataset), tags_of(dataset)
        pairs = report.pairs("train", "test")
        assert [p.similarity for p in pairs] == sorted((p.similarity for p in pairs), reverse=True)
        assert report.pairs("train", "test", 2) + report.pairs("train", "test", 50, 2) == pairs
        for pair in pairs:
            tests = [id_ for id_, split in split_of.items() if split == "test"]
            nearest = max(truth[pair.one.id][id_] for id_ in tests)
            assert truth[pair.one.id][pair.other.id] == pytest.approx(nearest, abs=1e-5)
            assert pair.similarity == pytest.approx(nearest, abs=1e-5)
            for side in (pair.one, pair.other):
                sample = dataset[side.id]
                assert (side.path, side.split) == (sample.filepath, sample.tags[0])
                assert side.drop == sample.leaks_drop

    def test_copies_by_the_hundred_are_counted_and_not_listed(
        self, dataset, fill, pictures, checkpoint
    ):
        first = draw(pictures / "0.png", 0)
        ids = fill([first, *(shutil.copyfile(first, pictures / f"{n}.png") for n in range(1, 300))])
        embed(dataset, checkpoint, progress=False)
        dataset.select(ids[:200]).tag_samples("train")
        dataset.select(ids[200:]).tag_samples("test")
        for similarity in (0.9, 1.0):
            report = find_leaks(dataset, similarity=similarity)
            assert (report.n_pairs, report.n_leaked, report.n_drop) == (200 * 100, 300, 200)
            assert len(dataset[ids[0]].leaks_partners) == 20
            assert set(dataset[ids[0]].leaks_partners) <= set(ids[200:])
            assert dataset[ids[0]].leaks_similarity == 1

    def test_what_a_person_said_is_no_duplicate_is_no_leak(self, dataset, gallery, checkpoint):
        before = find_leaks(dataset, similarity=SIMILARITY)
        said = [gallery["same0"], gallery["0"]], [gallery["1"], gallery["near1"]]
        for pair in said:
            say_not_duplicates(dataset, pair)
        after = find_leaks(dataset, similarity=SIMILARITY)
        split_of = tags_of(dataset)
        truth = crossing(cosines(checkpoint, dataset), split_of)
        assert after.n_pairs == len(truth.keys() - set(map(frozenset, said))) == before.n_pairs - 2
        assert dataset[gallery["1"]].leaks_split is None
        # The third copy is still a leak into both.
        assert set(dataset[gallery["near0"]].leaks_with) == {"train", "test"}

    def test_files_that_changed_and_samples_without_vectors_are_told(
        self, dataset, gallery, pictures, fill
    ):
        (pictures / "000.png").write_bytes((pictures / "011.png").read_bytes())
        (new,) = fill([draw(pictures / "new.png", 99)])
        (none,) = fill([draw(pictures / "none.png", 98)])
        dataset.select(new).tag_samples("val")
        report = find_leaks(dataset, similarity=SIMILARITY)
        assert set(report.skipped) == {gallery["0"], new}
        assert "changed" in report.skipped[gallery["0"]]
        assert (report.n_skipped, report.n_compared, report.n_unsplit) == (2, 14, 5)
        assert none not in report.skipped


class TestSplits:
    def test_a_field_of_text_or_of_a_classification_gives_what_tags_give(self, dataset, gallery):
        by_tags = find_leaks(dataset, splits=["train", "val", "test"], similarity=SIMILARITY)
        split_of = tags_of(dataset)
        labels = {id_: fo.Classification(label=split) for id_, split in split_of.items()}
        dataset.set_values("part", split_of, key_field="id")
        dataset.set_values("label", labels, key_field="id")
        for path in ("part", "label"):
            report = find_leaks(dataset, splits=path, similarity=SIMILARITY, key="again")
            assert report.matrix == by_tags.matrix
            assert report.n_unsplit == by_tags.n_unsplit
            names = zip(field_names("leaks").values(), field_names("again").values(), strict=True)
            for one, other in names:
                assert dataset.values(one) == dataset.values(other)

    def test_the_field_split_is_found_where_there_are_no_tags(self, dataset, gallery):
        split_of = tags_of(dataset)
        dataset.untag_samples(["train", "val", "test"])
        dataset.set_values("split", split_of, key_field="id")
        assert find_leaks(dataset, similarity=SIMILARITY).splits == ("train", "val", "test")

    def test_a_sample_in_two_splits_counts_where_it_stays(self, dataset, gallery, checkpoint):
        dataset.select([gallery["10"], gallery["same4"]]).tag_samples("train")
        report = find_leaks(dataset, splits=["train", "test"], similarity=SIMILARITY)
        assert report.n_both == 2
        assert set(report.both_view.values("id")) == {gallery["10"], gallery["same4"]}
        both, copied = dataset[gallery["10"]], dataset[gallery["same4"]]
        assert (both.leaks_split, both.leaks_with, both.leaks_drop) == ("test", ["train"], False)
        assert both.leaks_partner is None
        assert (copied.leaks_partner, copied.leaks_drop) == (gallery["4"], False)
        assert dataset[gallery["4"]].leaks_drop
        assert "2 are in two splits themselves" in str(report)
        assert all(pair.one.id != both.id for pair in report.pairs("test", "train"))
        both.tags.remove("train")
        both.save()
        assert report.both_view.values("id") == [gallery["same4"]]

    def test_which_split_gives_way(self, dataset, gallery):
        dataset.select([gallery[n] for n in ("0", "4", "8", "9", "10")]).tag_samples("many")
        dataset.select([gallery[n] for n in ("same0", "same4")]).tag_samples("few")
        for splits, drop, gives_way in [
            (["train", "test"], None, "train"),
            (["train", "test"], "test", "test"),
            (["val", "train"], None, "train"),
            (["val", "train"], "val", "val"),
            (["many", "few"], None, "many"),
            (["few", "many"], None, "many"),
            (["few", "many"], "few", "few"),
        ]:
            report = find_leaks(dataset, splits=splits, similarity=SIMILARITY, drop=drop)
            assert report.n_pairs > 0
            assert set(report.drop_view.values("leaks_split")) == {gives_way}


class TestOtherDatasets:
    @pytest.fixture
    def elsewhere(self, second, pictures, checkpoint):
        """A dataset with a near copy of picture 8, a byte-identical one of 9, and two others."""
        paths = [
            recompress(str(pictures / "008.png"), pictures / "other8.jpg", 95),
            shutil.copyfile(pictures / "009.png", pictures / "other9.png"),
            *draw_many(pictures, 2, first_seed=50),
        ]
        second.add_samples([fo.Sample(filepath=path) for path in paths], progress=False)
        embed(second, checkpoint, progress=False)
        return second

    def test_it_is_one_more_split_to_which_the_others_give_way(
        self, dataset, gallery, elsewhere, checkpoint
    ):
        schema = set(elsewhere.get_field_schema())
        report = find_leaks(dataset, other=elsewhere, similarity=SIMILARITY)
        split_of = tags_of(dataset) | dict.fromkeys(elsewhere.values("id"), elsewhere.name)
        truth = crossing(cosines(checkpoint, dataset, elsewhere), split_of)
        assert report.splits == ("train", "val", "test", elsewhere.name)
        assert report.n_pairs == len(truth)
        near, same = elsewhere.values("id")[:2]
        for name, mate in (("8", near), ("9", same)):
            sample = dataset[gallery[name]]
            assert (sample.leaks_partner, sample.leaks_with) == (mate, [elsewhere.name])
            assert sample.leaks_partner_path == elsewhere[mate].filepath
            assert sample.leaks_drop
        (pair,) = report.pairs("train", elsewhere.name)
        assert (pair.one.id, pair.other.id) == (gallery["8"], near)
        assert pair.other.path == elsewhere[near].filepath and not pair.other.drop
        (turned,) = report.pairs(elsewhere.name, "train")
        assert (turned.one, turned.other) == (pair.other, pair.one)
        assert set(elsewhere.get_field_schema()) == schema
        assert elsewhere.list_runs() == []

    def test_a_dataset_without_splits_is_one_and_names_can_be_given(
        self, dataset, gallery, elsewhere
    ):
        dataset.untag_samples(["train", "val", "test"])
        others = {"seen before": elsewhere.limit(1), "copy": elsewhere.skip(1)}
        report = find_leaks(dataset, other=others, similarity=SIMILARITY)
        assert report.splits == (dataset.name, "seen before", "copy")
        counts = [report.matrix.pairs_of(dataset.name, name) for name in report.splits]
        assert counts == [0, 1, 1]
        assert report.n_drop == 2

    def test_a_clone_leaks_everything(self, dataset, gallery, second, checkpoint):
        clone = dataset.clone(f"clone-{uuid.uuid4().hex}")
        try:
            report = find_leaks(dataset, other=clone, similarity=1.0)
            assert report.n_drop == report.n_compared == 15
            for sample in report.view:
                assert sample.id in sample.leaks_partners
        finally:
            clone.delete()

    def test_after_the_other_dataset_is_gone_its_pairs_are_too(self, dataset, gallery, elsewhere):
        report = find_leaks(dataset, other=elsewhere, similarity=SIMILARITY)
        elsewhere.clear()
        assert report.pairs("train", elsewhere.name) == []
        assert report.pairs("train", "test") != []

    def test_what_cannot_be_compared_is_refused(
        self, dataset, gallery, second, pictures, other_checkpoint
    ):
        with pytest.raises(DatasetError, match="has no field"):
            find_leaks(dataset, other=second)
        second.add_samples([fo.Sample(filepath=draw(pictures / "x.png", 70))], progress=False)
        embed(second, other_checkpoint, progress=False)
        with pytest.raises(DatasetError, match="with one checkpoint"):
            find_leaks(dataset, other=second)
        with pytest.raises(DatasetError, match="with itself"):
            find_leaks(dataset, other=dataset.limit(3))
        with pytest.raises(DatasetError, match="give it another name"):
            find_leaks(dataset, other={"train": second})
        assert dataset.list_runs() == []


class TestRuns:
    def test_a_saved_run_says_the_same_and_is_undone(self, dataset, gallery):
        before = set(dataset.get_field_schema())
        told = []
        report = find_leaks(
            dataset, similarity=SIMILARITY, key="seen", progress=lambda *at: told.append(at)
        )
        assert told[-1][0] == told[-1][1] > 0
        loaded = load_leaks(dataset, "seen")
        assert loaded == report and str(loaded) == str(report)
        assert dataset.load_saved_view("seen").values("id") == report.view.values("id")
        assert load_run(dataset, "seen").counts["pairs"] == report.n_pairs
        again = find_leaks(dataset, similarity=1.0, key="seen")
        assert load_leaks(dataset, "seen") == again != report
        assert set(dataset.get_field_schema()) - before == set(field_names("seen").values())
        delete_run(dataset, "seen")
        assert set(dataset.get_field_schema()) == before
        assert not dataset.has_saved_view("seen")

    def test_a_run_is_brought_up_to_date_with_the_same_splits(
        self, dataset, gallery, second, pictures, fill, checkpoint
    ):
        second.add_samples([fo.Sample(filepath=str(pictures / "008.png"))], progress=False)
        embed(second, checkpoint, progress=False)
        asked = {"splits": ["val", "test"], "other": {"old": second}, "drop": "test"}
        report = find_leaks(dataset, similarity=SIMILARITY, **asked)
        run = load_run(dataset, "leaks")
        assert not find_staleness(dataset, run)
        (new,) = fill([recompress(str(pictures / "010.png"), pictures / "late.jpg", 95)])
        dataset.select(new).tag_samples("val")
        assert find_staleness(dataset, run).added == 1
        rerun(dataset, "leaks", progress=False)
        after = load_leaks(dataset, "leaks")
        assert after.splits == report.splits == ("val", "test", "old")
        assert after.n_pairs == report.n_pairs + 1
        assert dataset[gallery["10"]].leaks_drop and not dataset[new].leaks_drop

    def test_nothing_in_common_and_nothing_at_all(self, dataset, gallery, checkpoint):
        view = dataset.select([gallery[name] for name in ("8", "10")])
        report = find_leaks(view, similarity=SIMILARITY)
        assert (report.n_pairs, report.n_leaked, report.n_drop) == (0, 0, 0)
        assert report.view.values("id") == [] == report.pairs("train", "test")
        dataset.clear_sample_field(FIELD)
        report = find_leaks(dataset, similarity=SIMILARITY)
        assert (report.n_compared, report.n_skipped, report.n_pairs) == (0, 15, 0)


MISTAKES = [
    ({"splits": ["train", "nowhere"]}, "no sample has the tag 'nowhere'"),
    ({"splits": ["train"]}, "found 1"),
    ({"splits": []}, "found 1"),
    ({"splits": "train"}, "no such field"),
    ({"splits": "clip_embedding"}, "VectorField"),
    ({"splits": "filepath"}, "two to 20 splits"),
    ({"drop": "valid"}, "'valid'; the splits are 'train', 'val', 'test'"),
    ({"key": "Bad Key"}, "lower-case"),
    ({"other": 7}, "dataset or view is needed"),
    ({"other": "nowhere"}, "no dataset 'nowhere'"),
]


def test_mistakes_are_sentences(dataset, gallery, fill, pictures):
    fill(draw_many(pictures, 10, first_seed=200))
    for asked, sentence in MISTAKES:
        with pytest.raises(DatasetError, match=sentence):
            find_leaks(dataset, **asked)
    assert dataset.list_runs() == []


def test_no_splits_and_no_similarity(dataset, gallery):
    with pytest.raises(VectorError, match="cosine above -1"):
        find_leaks(dataset, similarity=2)
    dataset.untag_samples(["train", "val", "test"])
    dataset.tag_samples("odd")
    with pytest.raises(DatasetError, match=r"its tags are 'odd'"):
        find_leaks(dataset)
