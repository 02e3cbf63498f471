from __future__ import annotations

import os
import shutil
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.dataset import (
    delete_run,
    embed,
    find_clusters,
    find_duplicates,
    list_runs,
    load_duplicates,
    load_run,
)
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import WHOLE, Band
from tests.pictures import draw, draw_many, recompress

FIELD = "clip_embedding"
SIMILARITY = 0.995
FIELDS = ("group", "rank", "role", "kind", "similarity", "least_similarity", "reason")


def cosines(dataset, checkpoint, band=None):
    """All cosines between the stored embeddings under a band: the oracle, by id."""
    embedded = dataset.exists(FIELD)
    rows = load_clip(checkpoint).isoclip(band)(np.stack(embedded.values(FIELD))).astype(np.float64)
    table = rows @ rows.T
    ids = embedded.values("id")
    return {a: dict(zip(ids, row, strict=True)) for a, row in zip(ids, table, strict=True)}


@pytest.fixture
def gallery(dataset, fill, pictures, checkpoint):
    """8 pictures; 0 has 2 near copies and 1 exact one, 1 has 1 exact one, 2 has 1 near one."""
    base = draw_many(pictures, 8)
    near = [recompress(base[0], pictures / f"near0-{q}.jpg", q) for q in (95, 70)]
    near.append(recompress(base[2], pictures / "near2.jpg"))
    exact = [str(pictures / "copy of 0.png"), str(pictures / "copy of 1.png")]
    for source, copy in zip(base, exact, strict=False):
        shutil.copyfile(source, copy)
    fill(base + near + exact)
    embed(dataset, checkpoint, progress=False)
    return base, near, exact


def names(report):
    """The groups as file names: keeper -> {copy: kind}."""
    return {
        Path(group.path).name: {Path(copy.path).name: copy.kind for copy in group.copies}
        for group in report.groups
    }


class TestGroups:
    def test_planted_copies_are_found_with_their_kind_and_nothing_else(self, dataset, gallery):
        report = find_duplicates(dataset, similarity=SIMILARITY, prefer="sharpest")
        groups = [{k, *v} for k, v in names(report).items()]
        assert sorted(map(sorted, groups)) == [
            ["000.png", "copy of 0.png", "near0-70.jpg", "near0-95.jpg"],
            ["001.png", "copy of 1.png"],
            ["002.png", "near2.jpg"],
        ]
        for group in report.groups:
            for copy in group.copies:
                same = Path(copy.path).read_bytes() == Path(group.path).read_bytes()
                assert copy.kind == ("exact" if same else "near")
        assert (report.n_duplicates, report.n_compared, report.n_skipped) == (5, 13, 0)
        assert report.bytes_freed == sum(Path(c.path).stat().st_size for c in report.duplicates)
        assert set(report.duplicates_view.values("id")) == {c.id for c in report.duplicates}

    @pytest.mark.parametrize("band", [None, WHOLE, Band(5, 2)])
    @pytest.mark.parametrize("similarity", [0.9, 0.97])
    def test_similarities_are_those_of_brute_force(
        self, dataset, gallery, checkpoint, similarity, band
    ):
        report = find_duplicates(dataset, similarity=similarity, band=band)
        truth = cosines(dataset, checkpoint, band)
        for group in report.groups:
            for copy in group.copies:
                assert copy.similarity == pytest.approx(truth[group.keeper][copy.id], abs=1e-5)
                assert copy.similarity >= similarity
            members = [group.keeper, *(copy.id for copy in group.copies)]
            least = min(truth[a][b] for a in members for b in members)
            assert group.least_similarity == pytest.approx(least, abs=1e-5)
        gone = {copy.id for copy in report.duplicates}
        stay = [id_ for id_ in truth if id_ not in gone]
        assert all(truth[a][b] < similarity for a in stay for b in stay if a != b)

    def test_the_fields_and_the_saved_view_hold_the_report(self, dataset, gallery):
        report = find_duplicates(dataset, similarity=SIMILARITY, key="twins")
        for number, group in enumerate(report.groups, 1):
            keeper, least = dataset[group.keeper], "twins_least_similarity"
            assert [keeper[f"twins_{name}"] for name in FIELDS] == [
                number, 0, "keeper", None, None, group.least_similarity, group.reason
            ]  # fmt: skip
            for rank, copy in enumerate(group.copies, 1):
                assert [dataset[copy.id][f"twins_{name}"] for name in FIELDS] == [
                    number, rank, "duplicate", copy.kind, copy.similarity, keeper[least], None
                ]  # fmt: skip
        grouped = {group.keeper for group in report.groups} | {c.id for c in report.duplicates}
        others = [sample for sample in dataset if sample.id not in grouped]
        assert all(sample["twins_group"] is None for sample in others)
        view = dataset.load_saved_view("twins")
        found = [group.values("id") for group in view.iter_dynamic_groups()]
        expected = [[g.keeper, *(copy.id for copy in g.copies)] for g in report.groups]
        assert found == expected
        assert [g.values("id") for g in report.view.iter_dynamic_groups()] == expected
        assert load_duplicates(dataset, "twins").groups == report.groups

    def test_identical_pictures_by_the_hundred_are_one_group(
        self, dataset, fill, pictures, checkpoint
    ):
        first = draw(pictures / "0.png", 0)
        paths = [shutil.copyfile(first, pictures / f"{n}.png") for n in range(1, 300)]
        fill([first, *paths])
        embed(dataset, checkpoint, progress=False)
        for similarity in (0.97, 1.0):
            report = find_duplicates(dataset, similarity=similarity)
            assert len(report.groups) == 1
            assert report.n_exact == report.n_duplicates == 299

    def test_only_the_samples_of_a_view_are_compared(self, dataset, gallery):
        ids = dataset.values("id")
        report = find_duplicates(dataset.select(ids[1:]), similarity=SIMILARITY)
        assert report.n_compared == 12
        assert dataset[ids[0]]["duplicates_group"] is None
        assert dataset.load_run_view("duplicates").values("id") == ids[1:]

    def test_f08_f10_what_cannot_be_compared_is_counted_and_named(
        self, dataset, fill, gallery, pictures, checkpoint
    ):
        (pictures / "bad.png").write_text("no picture")
        bad, late = fill([str(pictures / "bad.png"), draw(pictures / "late.png", 77)])
        embed(dataset.exclude(late), checkpoint, progress=False)
        ids = dataset.values("id")
        nan = dataset[ids[3]][FIELD] * np.nan
        dataset.set_values(
            FIELD,
            {ids[3]: nan, ids[4]: np.zeros(24, np.float32), ids[5]: np.ones(7, np.float32)},
            key_field="id",
        )
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert report.skipped.keys() == {bad, late, *ids[3:6]}
        assert report.n_skipped == 5
        assert "known format" in report.skipped[bad]
        assert "no embedding yet" in report.skipped[late]
        assert "not finite" in report.skipped[ids[3]]
        assert "7 numbers" in report.skipped[ids[5]]
        assert report.n_duplicates == 5


class TestAliases:
    def test_the_same_file_under_another_name_is_never_a_duplicate(
        self, dataset, fill, pictures, checkpoint
    ):
        base = draw_many(pictures, 3)
        (pictures / "link.png").symlink_to(base[0])
        os.link(base[1], pictures / "hard.png")
        fill([*base, str(pictures / "link.png"), str(pictures / "hard.png"), base[2]])
        embed(dataset, checkpoint, progress=False)
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert (report.n_duplicates, report.bytes_freed) == (0, 0)
        assert len(report.groups) == len(report.aliases) == 3
        assert dataset.count_values("duplicates_role") == {"keeper": 3, "alias": 3, None: 0} or (
            dataset.count_values("duplicates_role") == {"keeper": 3, "alias": 3}
        )

    def test_a_duplicate_that_two_samples_name_is_counted_once(
        self, dataset, fill, pictures, checkpoint
    ):
        base = draw_many(pictures, 2)
        copy = str(shutil.copyfile(base[0], pictures / "a longer name.png"))
        os.link(base[1], pictures / "another long name.png")
        fill([base[0], copy, copy, base[1], str(pictures / "another long name.png")])
        embed(dataset, checkpoint, progress=False)
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert [copy.path for copy in report.duplicates] == [copy]
        assert len(report.aliases) == 2
        assert report.bytes_freed == Path(copy).stat().st_size

    def test_a_file_that_stays_elsewhere_is_no_duplicate_here(
        self, dataset, fill, pictures, checkpoint
    ):
        """A file out of reach in two samples, one of which has another picture's vector."""
        base = draw_many(pictures, 2)
        gone = draw(pictures / "gone.png", 50)
        _, two, *_ = fill([gone, gone, *base])
        embed(dataset, checkpoint, progress=False)
        dataset.set_values(FIELD, {two: dataset[base[1]][FIELD]}, key_field="id")
        Path(gone).unlink()
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert names(report) == {"001.png": {"gone.png": "alias"}}

    def test_f10_a_file_that_changed_since_is_not_judged_by_its_old_vector(
        self, dataset, fill, pictures, checkpoint
    ):
        base = draw_many(pictures, 3)
        shutil.copyfile(base[0], pictures / "copy.png")
        ids = fill([*base, str(pictures / "copy.png")])
        embed(dataset, checkpoint, progress=False)
        draw(pictures / "copy.png", seed=99)
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert report.groups == ()
        assert "changed since" in report.skipped[ids[3]]

    def test_one_missing_file_in_two_samples(self, dataset, fill, pictures, checkpoint):
        path = draw(pictures / "0.png", 0)
        fill([path, path])
        embed(dataset, checkpoint, progress=False)
        Path(path).unlink()
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert (report.n_duplicates, len(report.aliases)) == (0, 1)


class TestKeepers:
    @pytest.fixture
    def trio(self, dataset, fill, pictures, checkpoint):
        """The same picture small and sharp, large and blurred, middle; the last file is oldest."""
        small = draw(pictures / "small.png", 0, side=64)
        large = draw(pictures / "large.png", 0, side=128)
        middle = draw(pictures / "middle.png", 0, side=96)
        for path, side in ((large, 128), (middle, 96)):
            with Image.open(path) as image:
                image.resize((30, 30)).resize((side, side), Image.Resampling.BILINEAR).save(path)
        for age, path in enumerate([small, large, middle]):
            os.utime(path, (1e9 - age * 1e6, 1e9 - age * 1e6))
        ids = dict(zip(["small", "large", "middle"], fill([small, large, middle]), strict=True))
        embed(dataset, checkpoint, progress=False)
        return ids

    @pytest.mark.parametrize(
        ("rule", "best", "reason"),
        [
            ("largest", "large", "128x128"),
            ("sharpest", "small", "sharpness"),
            ("earliest", "middle", "modified"),
            ("most_labels", "middle", "3 labels"),
            ("tag:good", "small", "tagged"),
        ],
    )
    def test_the_rule_decides_and_the_reason_is_stored(self, dataset, trio, rule, best, reason):
        boxes = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])] * 2)
        dataset.set_values("things", {trio["middle"]: boxes, trio["small"]: boxes}, key_field="id")
        kinds = {trio["middle"]: fo.Classification(label="x"), trio["large"]: None}
        dataset.set_values("kind", kinds, key_field="id")
        dataset.select(trio["small"]).tag_samples("good")
        report = find_duplicates(dataset, similarity=0.8, prefer=rule)
        assert [group.keeper for group in report.groups] == [trio[best]]
        assert reason in report.groups[0].reason
        assert dataset[trio[best]]["duplicates_reason"] == report.groups[0].reason

    def test_an_unknown_rule(self, dataset, trio):
        for rule in ("biggest", "tag:", "preferred_tag"):
            with pytest.raises(DatasetError, match="largest, sharpest"):
                find_duplicates(dataset, prefer=rule)


class TestRuns:
    def test_again_replaces_and_deleting_undoes(self, dataset, gallery):
        schema = dataset.get_field_schema().keys()
        find_duplicates(dataset, similarity=SIMILARITY)
        report = find_duplicates(dataset, similarity=0.9999999)
        assert report.n_exact == report.n_duplicates
        assert set(dataset.exists("duplicates_role").values("id")) == {
            id_ for g in report.groups for id_ in (g.keeper, *(copy.id for copy in g.copies))
        }
        (run,) = list_runs(dataset)
        assert run == load_run(dataset, "duplicates")
        assert (run.method, run.complete) == ("duplicates", True)
        assert run.parameters["similarity"] == 0.9999999
        assert run.counts["duplicates"] == report.n_duplicates
        delete_run(dataset, "duplicates")
        assert dataset.get_field_schema().keys() == schema
        assert not dataset.has_saved_view("duplicates")
        assert list_runs(dataset) == []

    def test_f10_samples_deleted_since_are_not_reported(self, dataset, gallery):
        report = find_duplicates(dataset, similarity=SIMILARITY)
        first, second = report.groups[0], report.groups[1]
        dataset.delete_samples([first.keeper, *(copy.id for copy in second.copies)])
        assert load_duplicates(dataset).groups == report.groups[2:]

    def test_a_refused_search_leaves_the_result_before_it(self, dataset, gallery):
        report = find_duplicates(dataset, similarity=SIMILARITY)
        with pytest.raises(VectorError):
            find_duplicates(dataset, similarity=3)
        assert load_duplicates(dataset).groups == report.groups

    def test_f21_nothing_of_the_users_is_overwritten(self, dataset, gallery):
        dataset.add_sample_field("mine_role", fo.StringField)
        with pytest.raises(DatasetError, match="field 'mine_role'"):
            find_duplicates(dataset, key="mine")
        dataset.save_view("twins", dataset.limit(1))
        with pytest.raises(DatasetError, match="saved view 'twins'"):
            find_duplicates(dataset, key="twins")
        find_clusters(dataset, count=2, key="both")
        with pytest.raises(DatasetError, match="run of clusters"):
            find_duplicates(dataset, key="both")
        assert not dataset.has_field("mine_group")

    @pytest.mark.parametrize("key", ["../x", "Upper", "1st", "", "a-b", "a.b", "x\0", None])
    def test_f16_keys_are_plain_names(self, dataset, gallery, key):
        with pytest.raises(DatasetError, match="cannot be the name"):
            find_duplicates(dataset, key=key)

    def test_embeddings_are_needed_and_their_checkpoint_known(self, dataset, fill, pictures):
        fill(draw_many(pictures, 2))
        with pytest.raises(DatasetError, match="compute it with embed"):
            find_duplicates(dataset)
        dataset.set_values(FIELD, list(np.ones((2, 24))))
        with pytest.raises(DatasetError, match="which checkpoint"):
            find_duplicates(dataset)

    def test_a_checkpoint_with_other_weights_by_now(
        self, dataset, fill, pictures, checkpoint, other_checkpoint
    ):
        fill(draw_many(pictures, 2))
        embed(dataset, checkpoint, progress=False)
        info = dict(dataset.get_field(FIELD).info["isoclip"], checkpoint=other_checkpoint)
        field = dataset.get_field(FIELD)
        field.info = {"isoclip": info}
        field.save()
        with pytest.raises(DatasetError, match="overwrite=True"):
            find_duplicates(dataset)


def test_f09_nothing_one_and_two_samples(dataset, fill, pictures, checkpoint):
    embed(dataset, checkpoint, progress=False)
    for count in range(3):
        report = find_duplicates(dataset, similarity=SIMILARITY)
        assert (report.groups, report.n_compared, report.n_skipped) == ((), count, 0)
        assert len(report.view) == len(report.duplicates_view) == report.bytes_freed == 0
        assert "0 of" in str(report)
        fill(draw_many(pictures, 1, first_seed=count))
        embed(dataset, checkpoint, progress=False)


def test_f09_nothing_but_failures(dataset, fill, pictures, checkpoint):
    fill([str(pictures / "missing.png")])
    embed(dataset, checkpoint, progress=False)
    report = find_duplicates(dataset)
    assert (report.groups, report.n_compared, report.n_skipped) == ((), 0, 1)
