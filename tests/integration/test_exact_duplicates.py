"""Samples whose files hold the same bytes, found without embeddings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fiftyone_isoclip.dataset import (
    delete_run,
    find_clusters,
    find_exact_duplicates,
    load_duplicates,
    load_run,
)
from fiftyone_isoclip.dataset.reruns import rerun
from fiftyone_isoclip.errors import DatasetError
from tests.planted import members


@pytest.fixture
def blobs(dataset, fill, pictures):
    """40 files of 12 contents, some of equal length, none of them a picture; one is not there."""
    paths = [pictures / f"{n}.png" for n in range(40)]
    for number, path in enumerate(paths):
        content = number * number % 13
        path.write_bytes(bytes([content]) * (100 + content % 3))
    fill([*map(str, paths), str(pictures / "not there.png")])
    schema = set(dataset.get_field_schema())
    return schema


def by_hash(dataset):
    """The ids of samples whose files have one hash: the oracle."""
    found = {}
    for id_, path in zip(*dataset.values(["id", "filepath"]), strict=True):
        if Path(path).exists():
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            found.setdefault(digest, set()).add(id_)
    return {frozenset(ids) for ids in found.values() if len(ids) > 1}


def test_the_groups_are_those_of_the_hashes(dataset, blobs):
    report = find_exact_duplicates(dataset)
    assert members(report) == by_hash(dataset)
    assert len(report.groups) > 3
    assert {(c.kind, c.similarity) for c in report.duplicates} == {("exact", 1.0)}
    assert (report.n_compared, report.n_skipped, report.similarity) == (41, 0, 1.0)
    assert report.bytes_freed == sum(Path(c.path).stat().st_size for c in report.duplicates)
    assert load_duplicates(dataset, "exact_duplicates").groups == report.groups
    view = dataset.load_saved_view("exact_duplicates")
    assert {frozenset(group.values("id")) for group in view.iter_dynamic_groups()} == by_hash(
        dataset
    )
    delete_run(dataset, "exact_duplicates")
    assert set(dataset.get_field_schema()) == blobs


def test_only_those_of_a_view_and_up_to_date_on_demand(dataset, blobs, fill, pictures):
    view = dataset.limit(20)
    assert members(find_exact_duplicates(view)) == by_hash(view)
    find_exact_duplicates(dataset)
    (pictures / "new.png").write_bytes((pictures / "0.png").read_bytes())
    fill([str(pictures / "new.png")])
    rerun(dataset, "exact_duplicates")
    assert members(load_duplicates(dataset, "exact_duplicates")) == by_hash(dataset)
    assert load_run(dataset, "exact_duplicates").counts["compared"] == 42


def test_nothing_and_bad_input(dataset, fill, pictures):
    assert find_exact_duplicates(dataset).groups == ()
    with pytest.raises(DatasetError, match="no rule for keepers"):
        find_exact_duplicates(dataset, prefer="biggest")
    with pytest.raises(DatasetError, match="cannot be the name"):
        find_exact_duplicates(dataset, key="Bad name")
    with pytest.raises(DatasetError, match="no field 'clip_embedding'"):
        find_clusters(dataset)
