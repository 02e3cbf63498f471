"""What becomes of duplicates: tags, verdicts, or removal with what they knew, and the way back."""

from __future__ import annotations

import os

import fiftyone as fo
import pytest
from bson import ObjectId
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset import (
    delete_run,
    find_duplicates,
    find_exact_duplicates,
    load_duplicates,
    load_run,
    read_verdicts,
    resolve_duplicates,
    restore_removed,
)
from fiftyone_isoclip.dataset.resolving import archive_name
from fiftyone_isoclip.dataset.review import list_groups
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw_many
from tests.planted import hashes, members, plant_copies

SIMILARITY = 0.995


@pytest.fixture
def planted(dataset, fill, pictures, checkpoint):
    """The ids of the planted samples by file name; whatever is removed is deleted afterwards."""
    yield plant_copies(dataset, fill, pictures, checkpoint)
    name = archive_name(dataset)
    if fo.dataset_exists(name):
        fo.delete_dataset(name)


@pytest.fixture
def found(dataset, planted):
    """A search in which 000.png and 001.png lead their groups."""
    leaders = [planted["000.png"], planted["001.png"]]
    dataset.select(leaders).tag_samples("best")
    report = find_duplicates(dataset, similarity=SIMILARITY, prefer="tag:best")
    dataset.select(leaders).untag_samples("best")
    assert set(leaders) <= {group.keeper for group in report.groups}
    return report


def documents(dataset, ids):
    """Everything the database holds of samples, but for when it was written."""
    found = dataset._sample_collection.find({"_id": {"$in": list(map(ObjectId, ids))}})
    passing = ("created_at", "last_modified_at", "_dataset_id")
    return {
        str(each["_id"]): {name: value for name, value in each.items() if name not in passing}
        for each in found
    }


def going(report):
    return {copy.id for copy in report.duplicates}


def keepers(report):
    return {group.keeper for group in report.groups}


class TestTag:
    def test_tags_and_nothing_else_and_untagging_undoes_it(self, dataset, planted, found, pictures):
        before, files = documents(dataset, planted.values()), hashes(pictures)
        for _ in range(2):
            report = resolve_duplicates(dataset, "duplicates")
            assert (report.action, report.groups, report.samples) == (
                "tag", len(found.groups), found.n_duplicates
            )  # fmt: skip
            assert set(dataset.match_tags("duplicate").values("id")) == going(found)
            assert set(dataset.match_tags("keeper").values("id")) == keepers(found)
        dataset.untag_samples(["duplicate", "keeper"])
        assert documents(dataset, planted.values()) == before
        assert hashes(pictures) == files

    def test_only_the_groups_that_are_given(self, dataset, planted, found):
        number = dataset[planted["001.png"]]["duplicates_group"]
        resolve_duplicates(dataset, "duplicates", groups=[number])
        assert dataset.match_tags("keeper").values("id") == [planted["001.png"]]
        assert dataset.match_tags("duplicate").values("id") == [planted["copy of 1.png"]]


class TestKeep:
    def test_later_searches_find_nothing_more(self, dataset, planted, found, pictures):
        files = hashes(pictures)
        number = dataset[planted["001.png"]]["duplicates_group"]
        report = resolve_duplicates(dataset, "duplicates", "keep", groups=[number])
        assert (report.groups, report.samples) == (1, 2)
        assert read_verdicts(dataset) == {frozenset((planted["001.png"], planted["copy of 1.png"]))}
        rest = resolve_duplicates(dataset, "duplicates", "keep")
        assert rest.groups == len(found.groups) - 1
        assert find_duplicates(dataset, similarity=SIMILARITY, key="again").groups == ()
        assert resolve_duplicates(dataset, "duplicates", "keep").groups == 0
        assert dataset.count() == len(planted)
        assert hashes(pictures) == files


class TestRemove:
    def test_duplicates_move_to_another_dataset_whole_and_back(
        self, dataset, planted, found, pictures
    ):
        boxes = fo.Detections(detections=[fo.Detection(label="b", bounding_box=[0, 0, 1, 1])])
        dataset.set_values("boxes", {planted["near0-70.jpg"]: boxes}, key_field="id")
        dataset.info["theirs"] = 1
        dataset.save()
        before, files = documents(dataset, planted.values()), hashes(pictures)
        schema = set(dataset.get_field_schema())
        report = resolve_duplicates(dataset, "duplicates", "remove")
        assert (report.samples, report.archive) == (found.n_duplicates, f"{dataset.name}-removed")
        assert set(dataset.values("id")) == set(planted.values()) - going(found)
        archive = fo.load_dataset(report.archive)
        assert archive.persistent
        assert set(archive.values("id")) == going(found)
        assert documents(archive, going(found)) == {id_: before[id_] for id_ in going(found)}
        assert resolve_duplicates(dataset, "duplicates", "remove").samples == 0
        assert set(archive.values("id")) == going(found)
        assert hashes(pictures) == files
        assert load_duplicates(dataset).groups == ()

        assert restore_removed(dataset) == found.n_duplicates
        assert documents(dataset, planted.values()) == before
        assert set(dataset.get_field_schema()) == schema
        assert dataset.info == {"theirs": 1}
        assert load_duplicates(dataset).groups == found.groups
        assert not fo.dataset_exists(report.archive)
        with pytest.raises(DatasetError, match="nothing was removed"):
            restore_removed(dataset)

    def test_group_after_group_and_broken_off_between(self, dataset, planted, found):
        one, other = (dataset[planted[f"00{n}.png"]]["duplicates_group"] for n in (0, 1))
        resolve_duplicates(dataset, "duplicates", "remove", groups=[one])
        assert planted["copy of 1.png"] in dataset.values("id")
        archive = fo.load_dataset(archive_name(dataset))
        # As if the next removal had ended between adding there and deleting here.
        archive.add_collection(dataset.select(planted["copy of 1.png"]), include_info=False)
        resolve_duplicates(dataset, "duplicates", "remove", groups=[other])
        assert planted["copy of 1.png"] not in dataset.values("id")
        assert archive.values("id").count(planted["copy of 1.png"]) == 1
        dataset.add_collection(archive.limit(1), include_info=False)
        assert restore_removed(dataset) == 3
        assert sorted(dataset.values("id")) == sorted(planted.values())

    def test_aliases_stay(self, dataset, fill, planted, pictures):
        link = pictures / "a hard link with a longer name.png"
        os.link(pictures / "005.png", link)
        linked = fill([str(link)])[0]
        report = find_exact_duplicates(dataset)
        assert linked in {copy.id for copy in report.aliases}
        resolve_duplicates(dataset, "exact_duplicates", "remove")
        assert set(dataset.values("id")) == {*planted.values(), linked} - going(report)

    def test_what_a_person_kept_is_not_removed(self, dataset, planted, found):
        number = dataset[planted["001.png"]]["duplicates_group"]
        resolve_duplicates(dataset, "duplicates", "keep", groups=[number])
        resolve_duplicates(dataset, "duplicates", "remove")
        assert planted["copy of 1.png"] in dataset.values("id")

    def test_a_group_without_its_keeper_is_left_alone(self, dataset, planted, found):
        dataset.delete_samples([planted["001.png"]])
        resolve_duplicates(dataset, "duplicates", "remove")
        assert planted["copy of 1.png"] in dataset.values("id")

    def test_tags_and_labels_go_to_the_keeper(self, dataset, planted, found):
        """Tagged first and removed afterwards, as a careful person does it."""
        dataset.select(planted["near0-70.jpg"]).tag_samples("night")
        dataset.set_values(
            "kind", {planted["copy of 1.png"]: fo.Classification(label="cat")}, key_field="id"
        )
        resolve_duplicates(dataset, "duplicates", "tag")
        report = resolve_duplicates(dataset, "duplicates", "remove")
        assert (report.merged, report.conflicts) == (2, 0)
        assert dataset[planted["000.png"]].tags == ["keeper", "night"]
        assert dataset[planted["001.png"]].tags == ["keeper"]
        assert dataset[planted["001.png"]].kind.label == "cat"
        assert len(dataset.match_tags("duplicate")) == 0

    def test_numbers_of_groups_of_a_replaced_run_do_not_come_back(self, dataset, planted, found):
        """They would put the restored samples into other groups, to be removed from there."""
        resolve_duplicates(dataset, "duplicates", "remove")
        find_duplicates(dataset, similarity=0.9)
        before = documents(dataset, dataset.values("id"))
        assert restore_removed(dataset) == found.n_duplicates
        restored = dataset.select(list(going(found)))
        assert restored.exists("duplicates_group").count() == 0
        assert restored.exists("clip_embedding").count() == found.n_duplicates
        assert documents(dataset, before) == before
        assert members(find_duplicates(dataset, similarity=SIMILARITY)) == members(found)

    def test_fields_of_a_deleted_run_do_not_come_back(self, dataset, planted, found):
        resolve_duplicates(dataset, "duplicates", "remove")
        delete_run(dataset, "duplicates")
        restore_removed(dataset)
        assert not [name for name in dataset.get_field_schema() if name.startswith("duplicates_")]
        assert members(find_duplicates(dataset, similarity=SIMILARITY)) == members(found)

    def test_somebody_elses_dataset_of_that_name_is_left_alone(self, dataset, planted, found):
        theirs = fo.Dataset(archive_name(dataset))
        theirs.add_sample(fo.Sample(filepath="theirs.png"))
        for use in (restore_removed, lambda d: resolve_duplicates(d, "duplicates", "remove")):
            with pytest.raises(DatasetError, match="does not hold what was removed"):
                use(dataset)
        assert theirs.values("filepath") == [os.path.abspath("theirs.png")]  # noqa: PTH100
        assert dataset.count() == len(planted)


def test_what_is_not_there_is_refused_before_anything_is_done(dataset, planted, found):
    before = documents(dataset, planted.values())
    with pytest.raises(DatasetError, match="choose tag, keep or remove"):
        resolve_duplicates(dataset, "duplicates", "delete")
    with pytest.raises(DatasetError, match="choose keeper or duplicate"):
        resolve_duplicates(dataset, "duplicates", "remove", conflict="both")
    with pytest.raises(DatasetError, match="no duplicates run 'nothing'"):
        resolve_duplicates(dataset, "nothing")
    assert documents(dataset, planted.values()) == before


class TestAfterwards:
    def test_what_has_nobody_left_beside_it_is_not_reviewed(self, dataset, found):
        run = load_run(dataset, "duplicates")
        first, *rest = list_groups(dataset, run)
        resolve_duplicates(dataset, "duplicates", "remove", groups=[first])
        assert list_groups(dataset, run) == tuple(rest)
        for order in ("loosest", "tightest"):
            assert sorted(list_groups(dataset, run, order)) == sorted(rest)

    def test_a_keeper_enters_no_second_split(self, dataset, planted, found):
        one, other = planted["001.png"], planted["copy of 1.png"]
        dataset.set_values("tags", {one: ["train"], other: ["test", "sunny"]}, key_field="id")
        number = dataset[one]["duplicates_group"]
        resolve_duplicates(dataset, "duplicates", "remove", groups=[number])
        assert dataset[one].tags == ["train", "sunny"]


class TestLabels:
    """Three files with the same bytes: a keeper and its duplicates, by rank; one near copy."""

    @pytest.fixture
    def trio(self, dataset, fill, pictures):
        first = draw_many(pictures, 1)[0]
        more = [pictures / f"longer name {n}.png" for n in range(2)]
        for path in more:
            path.write_bytes((pictures / "000.png").read_bytes())
        ids = fill([first, *more])
        (group,) = find_exact_duplicates(dataset).groups
        assert [group.keeper, *(copy.id for copy in group.copies)] == ids
        yield ids
        if fo.dataset_exists(archive_name(dataset)):
            fo.delete_dataset(archive_name(dataset))

    def merged(self, dataset, ids, labels, conflict="keeper", near=()):
        """Give the samples these labels, remove the duplicates; -> the keeper's, and the report."""
        kind = type(next(label for label in labels if label is not None))
        dataset.add_sample_field("label", fo.EmbeddedDocumentField, embedded_doc_type=kind)
        dataset.set_values("label", labels)
        kinds = {ids[place]: "near" for place in near}
        if kinds:
            dataset.set_values("exact_duplicates_kind", kinds, key_field="id")
        report = resolve_duplicates(dataset, "exact_duplicates", "remove", conflict=conflict)
        assert dataset.values("id") == ids[:1]
        return dataset.first().label, report

    @pytest.mark.parametrize(
        ("labels", "keeper", "duplicate", "conflicts"),
        [
            (("a", "b", "c"), "a", "b", (2, 1)),
            (("a", "a", "c"), "a", "c", (1, 1)),
            ((None, None, "c"), "c", "c", (0, 0)),
            ((None, "b", "c"), "b", "b", (1, 1)),
            (("a", None, None), "a", "a", (0, 0)),
        ],
    )
    def test_classes(self, dataset, trio, labels, keeper, duplicate, conflicts):
        for at, (conflict, stays) in enumerate((("keeper", keeper), ("duplicate", duplicate))):
            given = [None if label is None else fo.Classification(label=label) for label in labels]
            label, report = self.merged(dataset, trio, given, conflict)
            assert (label.label, report.conflicts) == (stays, conflicts[at])
            assert report.merged == int(stays != labels[0])
            restore_removed(dataset)

    def test_lists_of_classes_are_united(self, dataset, trio):
        given = [
            fo.Classifications(classifications=[fo.Classification(label=name) for name in names])
            for names in ("ab", "bc", "d")
        ]
        label, report = self.merged(dataset, trio, given, near=[2])
        assert [each.label for each in label.classifications] == list("abcd")
        assert (report.merged, report.conflicts) == (1, 0)

    def boxes(self, *names):
        return fo.Detections(
            detections=[fo.Detection(label=name, bounding_box=[0, 0, 0.5, 0.5]) for name in names]
        )

    def test_boxes_come_from_identical_files_alone(self, dataset, trio):
        given = [None, self.boxes("near"), self.boxes("exact", "too")]
        label, report = self.merged(dataset, trio, given, near=[1])
        assert [each.label for each in label.detections] == ["exact", "too"]
        assert label.detections[0].bounding_box == [0, 0, 0.5, 0.5]
        assert (report.merged, report.conflicts) == (1, 0)

    def test_boxes_of_a_near_copy_are_not_taken(self, dataset, trio):
        given = [None, self.boxes("near"), None]
        label, report = self.merged(dataset, trio, given, "duplicate", near=[1, 2])
        assert label is None
        assert report.merged == 0

    @pytest.mark.parametrize(("conflict", "stays"), [("keeper", ["a"]), ("duplicate", ["b"])])
    def test_boxes_that_contradict(self, dataset, trio, conflict, stays):
        given = [self.boxes("a"), self.boxes(), self.boxes("b")]
        label, report = self.merged(dataset, trio, given, conflict)
        assert [each.label for each in label.detections] == stays
        assert report.conflicts == 1

    def test_the_same_said_twice_is_no_conflict(self, dataset, trio):
        given = [self.boxes("a"), self.boxes("a"), None]
        before = given[0].detections[0].id
        label, report = self.merged(dataset, trio, given, "duplicate")
        assert label.detections[0].id == before
        assert (report.merged, report.conflicts) == (0, 0)

    def test_the_removed_keep_their_own(self, dataset, trio):
        given = [fo.Classification(label=label) for label in "abc"]
        self.merged(dataset, trio, given)
        restore_removed(dataset)
        assert dataset.sort_by("exact_duplicates_rank").values("label.label") == list("abc")
        assert dataset.match(F("label.label") == "b").values("id") == trio[1:2]
