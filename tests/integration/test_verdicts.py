"""What a person says of duplicates stays on the samples and rules every later search."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId

from fiftyone_isoclip.dataset import (
    embed,
    find_duplicates,
    find_exact_duplicates,
    forget_verdicts,
    load_duplicates,
    prefer_keeper,
    read_verdicts,
    say_not_duplicates,
)
from fiftyone_isoclip.dataset.groups import APART, field_names
from fiftyone_isoclip.dataset.review import judge_again, keep_all, keep_this
from fiftyone_isoclip.dataset.verdicts import KEEP_FIELD, VERDICTS_FIELD
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw_many, recompress
from tests.planted import FIELD, members, plant_copies

SIMILARITY = 0.995
PLANTED = [
    {"000.png", "copy of 0.png", "near0-95.jpg", "near0-70.jpg"},
    {"001.png", "copy of 1.png"},
]


@pytest.fixture
def planted(dataset, fill, pictures, checkpoint):
    """The ids of the planted samples by file name."""
    return plant_copies(dataset, fill, pictures, checkpoint)


@pytest.fixture
def found(dataset, planted):
    """A search that found the planted groups."""
    report = find_duplicates(dataset, similarity=SIMILARITY)
    for names in PLANTED:
        assert {planted[name] for name in names} in members(report)
    return report


def ids_of(planted, number):
    return {planted[name] for name in PLANTED[number]}


def number_of(dataset, ids, key="duplicates"):
    (number,) = set(dataset.select(ids).values(f"{key}_group"))
    return number


def columns(dataset, key="duplicates"):
    """Everything that a run wrote."""
    names = list(field_names(key).values())
    return dict(zip(dataset.values("id"), zip(*dataset.values(names), strict=True), strict=True))


class TestKeepAll:
    def test_a_group_kept_whole_is_never_found_again_and_the_others_are(
        self, dataset, planted, found
    ):
        apart = ids_of(planted, 0)
        keep_all(dataset, "duplicates", number_of(dataset, apart))
        others = tuple(group for group in found.groups if group.keeper not in apart)
        assert load_duplicates(dataset).groups == others
        assert apart.isdisjoint(dataset.load_saved_view("duplicates").values("id"))
        assert set(dataset.select(apart).values("duplicates_role")) == {APART}
        again = find_duplicates(dataset, similarity=SIMILARITY, key="again")
        assert again.groups == others

    def test_it_lies_in_the_database_and_in_clones(self, dataset, planted, found):
        apart = ids_of(planted, 0)
        keep_all(dataset, "duplicates", number_of(dataset, apart))
        for id_ in apart:
            stored = dataset._sample_collection.find_one({"_id": ObjectId(id_)})
            assert set(stored[VERDICTS_FIELD]) == apart - {id_}
        said = read_verdicts(dataset)
        assert {id_ for pair in said for id_ in pair} == apart
        assert len(said) == 6
        clone = dataset.clone()
        try:
            again = find_duplicates(clone, similarity=SIMILARITY, key="again")
            assert members(again) == members(found) - {frozenset(apart)}
            forget_verdicts(clone)
            assert read_verdicts(dataset) == said
        finally:
            clone.delete()

    def test_judging_again_restores_all(self, dataset, planted, found):
        before, schema = columns(dataset), set(dataset.get_field_schema())
        number = number_of(dataset, ids_of(planted, 0))
        keep_all(dataset, "duplicates", number)
        assert columns(dataset) != before
        judge_again(dataset, "duplicates", number)
        assert columns(dataset) == before
        assert read_verdicts(dataset) == set()
        assert load_duplicates(dataset).groups == found.groups
        assert find_duplicates(dataset, similarity=SIMILARITY, key="again").groups == found.groups
        forget_verdicts(dataset)
        names = set(field_names("again").values())
        assert set(dataset.get_field_schema()) == schema | names

    def test_several_groups_at_once(self, dataset, planted, found):
        numbers = [number_of(dataset, ids_of(planted, which)) for which in (0, 1)]
        keep_all(dataset, "duplicates", *numbers)
        assert len(read_verdicts(dataset)) == 6 + 1
        one, other = ids_of(planted, 0), ids_of(planted, 1)
        assert not any(pair & one and pair & other for pair in read_verdicts(dataset))

    def test_a_group_that_is_not_there(self, dataset, found):
        for judge in (keep_all, judge_again):
            with pytest.raises(DatasetError, match="no group 99"):
                judge(dataset, "duplicates", 99)
            with pytest.raises(DatasetError, match="no duplicates run 'nothing'"):
                judge(dataset, "nothing", 1)
        assert read_verdicts(dataset) == set()
        assert not dataset.has_field(VERDICTS_FIELD)


class TestVerdicts:
    def test_identical_files_can_be_said_apart(self, dataset, planted, found):
        say_not_duplicates(dataset, list(ids_of(planted, 1)))
        # Naming one twice says nothing of it and itself.
        said = [planted[name] for name in ("000.png", "copy of 0.png", "000.png")]
        say_not_duplicates(dataset, said)
        assert find_exact_duplicates(dataset).groups == ()
        prefer_keeper(dataset, planted["000.png"], [])
        again = find_duplicates(dataset, similarity=SIMILARITY)
        assert not any(ids_of(planted, 1) & group for group in members(again))
        left = ids_of(planted, 0) - {planted["copy of 0.png"]}
        assert left in members(again)
        assert not any(planted["copy of 0.png"] in group for group in members(again))

    def test_forgetting_some_and_all(self, dataset, planted, found):
        schema = set(dataset.get_field_schema())
        one, other = ids_of(planted, 0), ids_of(planted, 1)
        say_not_duplicates(dataset, [*one, *other])
        forget_verdicts(dataset, list(one))
        left = read_verdicts(dataset)
        assert not any(pair <= one for pair in left)
        assert len(left) == 4 * 2 + 1
        prefer_keeper(dataset, planted["near0-70.jpg"], [])
        forget_verdicts(dataset)
        assert set(dataset.get_field_schema()) == schema
        assert read_verdicts(dataset) == set()
        assert find_duplicates(dataset, similarity=SIMILARITY).groups == found.groups
        forget_verdicts(dataset)  # nothing is left to forget

    def test_a_field_of_that_name_that_is_not_ours(self, dataset, planted):
        dataset.add_sample_field(VERDICTS_FIELD, fo.StringField)
        with pytest.raises(DatasetError, match="'not_duplicates' is a StringField"):
            say_not_duplicates(dataset, list(planted.values())[:2])


class TestKeepThis:
    def test_it_is_the_keeper_here_and_all_is_about_it(
        self, dataset, planted, found, checkpoint, pictures
    ):
        chosen, ids = planted["near0-70.jpg"], ids_of(planted, 0)
        before = columns(dataset)
        keep_this(dataset, "duplicates", chosen)
        after = columns(dataset)
        assert {id_: row for id_, row in after.items() if id_ not in ids} == {
            id_: row for id_, row in before.items() if id_ not in ids
        }
        isoclip = load_clip(checkpoint).isoclip(None)
        vectors = {id_: isoclip(dataset[id_][FIELD][None])[0].astype(float) for id_ in ids}
        (group,) = (g for g in load_duplicates(dataset).groups if g.keeper == chosen)
        assert {copy.id for copy in group.copies} == ids - {chosen}
        for copy in group.copies:
            cosine = vectors[chosen] @ vectors[copy.id]
            cosine /= np.linalg.norm(vectors[chosen]) * np.linalg.norm(vectors[copy.id])
            assert copy.similarity == pytest.approx(cosine, abs=1e-6)
            assert copy.kind == "near"  # its file alone is a JPEG of that quality
            sample = dataset[copy.id]
            assert (sample["duplicates_role"], sample["duplicates_reason"]) == ("duplicate", None)
            assert sample["duplicates_bytes"] == Path(copy.path).stat().st_size
        keeper = dataset[chosen]
        assert [keeper[f"duplicates_{part}"] for part in ("rank", "role", "kind", "bytes")] == [
            0, "keeper", None, None
        ]  # fmt: skip
        assert (keeper["duplicates_similarity"], group.reason) == (None, "chosen by hand")
        ranks = [row[1] for id_, row in after.items() if id_ in ids]
        assert sorted(ranks) == [0, 1, 2, 3]
        first = next(
            view.first().id
            for view in dataset.load_saved_view("duplicates").iter_dynamic_groups()
            if chosen in view.values("id")
        )
        assert first == chosen

    def test_an_exact_copy_is_exact_also_to_the_new_keeper(self, dataset, planted, found):
        one, other = planted["000.png"], planted["copy of 0.png"]
        keeper = next(g.keeper for g in found.groups if g.keeper in ids_of(planted, 0))
        chosen = other if keeper == one else one
        keep_this(dataset, "duplicates", chosen)
        (group,) = (g for g in load_duplicates(dataset).groups if g.keeper == chosen)
        kinds = {copy.id: copy.kind for copy in group.copies}
        assert kinds.pop({one: other, other: one}[chosen]) == "exact"
        assert set(kinds.values()) == {"near"}

    @pytest.mark.parametrize("prefer", ["earliest", "tag:best"])
    def test_later_searches_keep_it_whatever_they_prefer(self, dataset, planted, found, prefer):
        """Without a word of a person each of these rules keeps another one."""
        chosen = planted["near0-70.jpg"]
        dataset.select(planted["000.png"]).tag_samples("best")
        keep_this(dataset, "duplicates", planted["near0-95.jpg"])
        keep_this(dataset, "duplicates", chosen)
        again = find_duplicates(dataset, similarity=SIMILARITY, prefer=prefer, key="again")
        (group,) = (g for g in again.groups if chosen in {g.keeper, *(c.id for c in g.copies)})
        assert (group.keeper, group.reason) == (chosen, "chosen by hand")
        assert dataset.values(KEEP_FIELD).count(True) == 1
        forget_verdicts(dataset)
        again = find_duplicates(dataset, similarity=SIMILARITY, prefer=prefer, key="again")
        assert chosen not in {group.keeper for group in again.groups}

    def test_after_keeping_all_it_takes_that_back(self, dataset, planted, found):
        ids, chosen = ids_of(planted, 0), planted["near0-95.jpg"]
        keep_all(dataset, "duplicates", number_of(dataset, ids))
        keep_this(dataset, "duplicates", chosen)
        assert read_verdicts(dataset) == set()
        again = find_duplicates(dataset, similarity=SIMILARITY, key="again")
        assert members(again) == members(found)

    def test_among_identical_files_found_without_embeddings(self, dataset, planted):
        report = find_exact_duplicates(dataset)
        group = report.groups[0]
        (copy,) = group.copies
        keep_this(dataset, "exact_duplicates", copy.id)
        changed = load_duplicates(dataset, "exact_duplicates").groups[0]
        assert (changed.keeper, changed.reason) == (copy.id, "chosen by hand")
        (other,) = changed.copies
        assert (other.id, other.kind, other.similarity) == (group.keeper, "exact", 1.0)
        assert not dataset.has_field(VERDICTS_FIELD)

    def test_what_cannot_be_computed_changes_nothing(self, dataset, planted, found):
        dataset.delete_sample_field(FIELD)
        before = columns(dataset)
        with pytest.raises(DatasetError, match="compute it with embed"):
            keep_this(dataset, "duplicates", planted["near0-70.jpg"])
        assert columns(dataset) == before
        assert not dataset.has_field(KEEP_FIELD)

    def test_a_sample_of_no_group(self, dataset, planted, found):
        with pytest.raises(DatasetError, match="in no group of 'duplicates'"):
            keep_this(dataset, "duplicates", planted["007.png"])
        with pytest.raises(DatasetError, match="in no group of 'duplicates'"):
            keep_this(dataset, "duplicates", str(ObjectId()))


class TestAliases:
    """A picture as a file, a hard link to it and a near copy that two samples name."""

    @pytest.fixture
    def linked(self, dataset, fill, pictures, checkpoint):
        base = draw_many(pictures, 1)[0]
        link = str(pictures / "a hard link with a longer name.png")
        os.link(base, link)
        near = recompress(base, pictures / "near.jpg")
        names = ("file", "link", "near", "near again")
        ids = dict(zip(names, fill([base, link, near, near]), strict=True))
        embed(dataset, checkpoint, progress=False)
        dataset.select(ids["file"]).tag_samples("best")
        report = find_duplicates(dataset, similarity=0.9, prefer="tag:best")
        assert members(report) == {frozenset(ids.values())}
        assert self.roles(dataset, ids) == {
            "file": "keeper", "link": "alias", "near": "duplicate", "near again": "alias",
        }  # fmt: skip
        return ids

    def roles(self, dataset, ids):
        return {name: dataset[id_]["duplicates_role"] for name, id_ in ids.items()}

    @pytest.mark.parametrize("chosen", ["link", "near", "near again"])
    def test_a_second_sample_of_the_kept_file_is_no_duplicate(self, dataset, linked, chosen):
        keep_this(dataset, "duplicates", linked[chosen])
        roles = self.roles(dataset, linked)
        other = {"link": "file", "near": "near again", "near again": "near"}[chosen]
        assert roles[chosen] == "keeper"
        assert roles[other] == "alias"
        assert dataset[linked[other]]["duplicates_bytes"] is None
        # Of the other file one sample is a duplicate and one would count it twice.
        rest = {roles[name] for name in linked if name not in (chosen, other)}
        assert rest == {"duplicate", "alias"}

    def test_choosing_to_and_fro_and_keeping_all_between_changes_nothing(self, dataset, linked):
        before = columns(dataset)
        number = number_of(dataset, list(linked.values()))
        for chosen in ("near again", "link", "near"):
            keep_this(dataset, "duplicates", linked[chosen])
        keep_all(dataset, "duplicates", number)
        keep_this(dataset, "duplicates", linked["file"])
        roles = self.roles(dataset, linked)
        assert (roles["file"], roles["link"]) == ("keeper", "alias")
        assert {roles["near"], roles["near again"]} == {"duplicate", "alias"}
        assert before.keys() == columns(dataset).keys()


def test_a_chosen_sample_leads_its_identical_copies(dataset, fill, pictures, checkpoint):
    first = draw_many(pictures, 1)[0]
    copies = [shutil.copyfile(first, pictures / f"a longer name {n}.png") for n in range(3)]
    ids = fill([first, *copies])
    assert find_exact_duplicates(dataset).groups[0].keeper == ids[0]
    prefer_keeper(dataset, ids[2], ids)
    assert find_exact_duplicates(dataset).groups[0].keeper == ids[2]
