from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import (
    delete_run,
    embed,
    find_clusters,
    find_duplicates,
    list_runs,
    load_duplicates,
    load_run,
)
from fiftyone_isoclip.dataset.runs import Column, SavedRun, save_run
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw_many

SIMILARITY = 0.995


@pytest.fixture
def searched(dataset, fill, pictures, checkpoint):
    """A dataset with two runs; -> the schema it had before them."""
    paths = draw_many(pictures, 4)
    fill([*paths, *draw_many(pictures / "again", 2)])
    embed(dataset, checkpoint, progress=False)
    schema = list(dataset.get_field_schema())
    find_duplicates(dataset, similarity=SIMILARITY)
    find_clusters(dataset, count=2, key="looks")
    return schema


def test_runs_tell_what_was_asked_and_found(dataset, searched, checkpoint):
    latest, first = list_runs(dataset)
    assert (latest.key, latest.method, first.key, first.method) == (
        "looks", "clusters", "duplicates", "duplicates",
    )  # fmt: skip
    assert first.parameters == {
        "field": "clip_embedding", "similarity": SIMILARITY, "prefer": "largest",
        "false_matches": None, "recall": None, "band": None, "at_most": None, "least": None,
    }  # fmt: skip
    assert first.counts == {
        "compared": 6, "skipped": 0, "groups": 2, "duplicates": 2, "recall": 1.0,
    }  # fmt: skip
    assert first.checkpoint == checkpoint
    assert len(first.fingerprint) == 64
    assert first.time < latest.time
    assert set(first.fields) <= set(dataset.get_field_schema())


def test_fiftyones_own_delete_run_is_the_same_undo(dataset, searched):
    dataset.delete_run("duplicates")
    delete_run(dataset, "looks")
    assert list(dataset.get_field_schema()) == searched
    assert dataset.list_saved_views() == dataset.list_runs() == []


def test_a_clone_has_runs_of_its_own(dataset, searched):
    clone = dataset.clone()
    try:
        found, copied = load_duplicates(dataset), load_duplicates(clone)
        assert [g.path for g in copied.groups] == [g.path for g in found.groups]
        delete_run(clone, "duplicates")
        assert not clone.has_field("duplicates_group")
        assert dataset.has_field("duplicates_group")
        assert load_duplicates(dataset).groups == found.groups
    finally:
        clone.delete()


def test_a_renamed_run_and_dataset_can_still_be_undone(dataset, searched):
    dataset.rename_run("looks", "styles")
    dataset.name = f"{dataset.name}-renamed"
    assert load_run(dataset, "styles").method == "clusters"
    delete_run(dataset, "styles")
    assert not dataset.has_field("looks")
    assert not dataset.has_saved_view("looks")


def test_a_run_that_did_not_end_is_marked_and_replaced(dataset, searched):
    def interrupted():
        raise KeyboardInterrupt

    run = SavedRun("late", "duplicates", {}, "checkpoint", "fingerprint", "0/0")
    columns = {"late_group": Column(fo.IntField, {dataset.first().id: 1})}
    with pytest.raises(KeyboardInterrupt):
        save_run(dataset, run, columns, interrupted)
    assert not load_run(dataset, "late").complete
    find_duplicates(dataset, similarity=SIMILARITY, key="late")
    assert load_run(dataset, "late").complete
    delete_run(dataset, "late")
    assert not dataset.has_field("late_group")


def test_fields_the_user_deleted_do_not_stand_in_the_way(dataset, searched):
    dataset.delete_sample_field("duplicates_rank")
    dataset.delete_saved_view("duplicates")
    delete_run(dataset, "duplicates")
    assert not dataset.has_field("duplicates_group")


def test_other_peoples_runs_are_left_alone(dataset, searched):
    dataset.register_run("theirs", dataset.init_run(method="other"))
    assert [run.key for run in list_runs(dataset)] == ["looks", "duplicates"]
    for use in (load_run, delete_run, load_duplicates):
        with pytest.raises(DatasetError, match=r"no .*run 'theirs'"):
            use(dataset, "theirs")
    with pytest.raises(DatasetError, match="run of other"):
        find_duplicates(dataset, key="theirs")
    assert dataset.has_run("theirs")


def test_a_run_that_is_not_there_names_those_that_are(dataset, searched):
    with pytest.raises(DatasetError, match=r"duplicates \(duplicates\)"):
        load_run(dataset, "nothing")
    with pytest.raises(DatasetError, match="no duplicates run 'looks'"):
        load_duplicates(dataset, "looks")


def test_no_field_is_written_before_its_run_is_known(dataset, searched):
    """Whatever is left behind by a crash belongs to a run and can be undone."""
    bad = {"half_group": Column(fo.IntField, {dataset.first().id: np.array([1])})}
    run = SavedRun("half", "duplicates", {}, "checkpoint", "fingerprint", "0/0")
    with pytest.raises(Exception, match="int"):
        save_run(dataset, run, bad, dataset.view)
    delete_run(dataset, "half")
    assert not dataset.has_field("half_group")
