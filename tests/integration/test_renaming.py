"""A renamed run takes its fields and its saved view along, and can still be undone."""

from __future__ import annotations

import fiftyone as fo
import pytest

from fiftyone_isoclip.dataset import (
    delete_run,
    find_clusters,
    find_duplicates,
    list_runs,
    load_clusters,
    load_duplicates,
    load_run,
    rename_run,
)
from fiftyone_isoclip.errors import DatasetError
from tests.planted import plant_copies


@pytest.fixture
def schema(dataset, fill, pictures, checkpoint):
    """The fields of a dataset with planted copies."""
    plant_copies(dataset, fill, pictures, checkpoint)
    return set(dataset.get_field_schema())


def test_a_run_of_duplicates(dataset, schema):
    indexed = set(dataset.list_indexes())
    found = find_duplicates(dataset, similarity=0.98)
    assert set(dataset.list_indexes()) - indexed == {"duplicates_group", "duplicates_role"}
    ids = dataset.load_saved_view("duplicates").values("id")
    groups = [view.values("id") for view in found.view.iter_dynamic_groups()]
    old = load_run(dataset, "duplicates")
    rename_run(dataset, "duplicates", "twins")
    new = load_run(dataset, "twins")
    assert (new.parameters, new.counts, new.complete) == (old.parameters, old.counts, True)
    assert load_duplicates(dataset, "twins").groups == found.groups
    assert set(dataset.get_field_schema()) == schema | set(new.fields)
    assert [name.removeprefix("twins") for name in new.fields] == [
        name.removeprefix("duplicates") for name in old.fields
    ]
    assert dataset.list_saved_views() == ["twins"]
    assert set(dataset.list_indexes()) - indexed == {"twins_group", "twins_role"}
    view = dataset.load_saved_view("twins")
    assert view.values("id") == ids
    assert [group.values("id") for group in view.iter_dynamic_groups()] == groups
    with pytest.raises(DatasetError, match="no duplicates run 'duplicates'"):
        load_duplicates(dataset)
    delete_run(dataset, "twins")
    assert set(dataset.get_field_schema()) == schema
    assert dataset.list_saved_views() == dataset.list_runs() == []
    assert set(dataset.list_indexes()) == indexed


def test_a_run_of_clusters(dataset, schema):
    found = find_clusters(dataset, count=3, key="looks")
    view = dataset.load_saved_view("looks")
    ids = {name: view.match({"looks": name}).values("id") for name in dataset.distinct("looks")}
    rename_run(dataset, "looks", "styles")
    view = dataset.load_saved_view("styles")
    assert {
        name: view.match({"styles": name}).values("id") for name in dataset.distinct("styles")
    } == ids
    assert load_clusters(dataset, "styles").clusters == found.clusters
    assert not [name for name in dataset.get_field_schema() if name.startswith("looks")]
    delete_run(dataset, "styles")
    assert set(dataset.get_field_schema()) == schema
    assert dataset.list_saved_views() == dataset.list_runs() == []


def test_what_fiftyone_renamed_can_be_renamed_whole(dataset, schema):
    found = find_duplicates(dataset, similarity=0.98)
    dataset.rename_run("duplicates", "twins")
    rename_run(dataset, "twins", "pairs")
    assert load_duplicates(dataset, "pairs").groups == found.groups
    assert dataset.list_saved_views() == ["pairs"]
    delete_run(dataset, "pairs")
    assert set(dataset.get_field_schema()) == schema


def test_a_name_that_is_taken_or_is_none(dataset, schema):
    found = find_duplicates(dataset, similarity=0.98)
    find_duplicates(dataset, similarity=1.0, key="exact")
    find_clusters(dataset, count=2, key="looks")
    dataset.save_view("mine", dataset.limit(1))
    dataset.add_sample_field("theirs_rank", fo.StringField)
    before = set(dataset.get_field_schema())
    for name, why in {
        "exact": "exists already",
        "looks": "taken by a run of clusters",
        "mine": "saved view 'mine'",
        "theirs": "field 'theirs_rank'",
        "duplicates": "exists already",
        "Bad name": "cannot be the name",
    }.items():
        with pytest.raises(DatasetError, match=why):
            rename_run(dataset, "duplicates", name)
    with pytest.raises(DatasetError, match="no run 'nothing'"):
        rename_run(dataset, "nothing", "something")
    assert set(dataset.get_field_schema()) == before
    assert load_duplicates(dataset).groups == found.groups
    assert {run.key for run in list_runs(dataset)} == {"duplicates", "exact", "looks"}
