"""The copy of the vectors in files gives what the database holds, or is not used."""

from __future__ import annotations

import logging

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import embed, upgrade
from fiftyone_isoclip.dataset import vectors as reading
from fiftyone_isoclip.dataset.sidestore import store_folder
from fiftyone_isoclip.dataset.vectors import read_database, read_vectors
from fiftyone_isoclip.index import read_store
from tests.pictures import draw, draw_many

FIELD = "clip_embedding"


@pytest.fixture
def embedded(dataset, fill, pictures, checkpoint):
    """A dataset of 12 embedded pictures and one file that is no picture."""
    paths = draw_many(pictures, 12)
    (pictures / "broken.jpg").write_text("no picture")
    fill([*paths, pictures / "broken.jpg"])
    embed(dataset, checkpoint, progress=False)
    return dataset


def dim_of(dataset):
    return len(dataset.exists(FIELD).first()[FIELD])


def assert_reads_the_database(samples):
    """What is read is FiftyOne's own reading of the field, in the order of the samples."""
    found = read_vectors(samples, FIELD, dim_of(samples))
    ids, truth = samples.exists(FIELD).values(["id", FIELD])
    assert found.ids == ids
    np.testing.assert_array_equal(found.vectors, np.array(truth))


@pytest.fixture
def database_reads(monkeypatch):
    """How many samples were read from the database, call by call."""
    counts = []

    def counting(samples, field, dim):
        counts.append(len(samples))
        return read_database(samples, field, dim)

    monkeypatch.setattr(reading, "read_database", counting)
    return counts


def test_embedding_leaves_a_copy_that_is_read_instead_of_the_database(
    embedded, database_reads, monkeypatch
):
    monkeypatch.setattr(reading, "SPOT_CHECKS", 2)
    assert_reads_the_database(embedded)
    assert database_reads == [2]  # the two rows that are compared
    assert_reads_the_database(embedded.skip(3).limit(5))
    assert_reads_the_database(embedded.sort_by("filepath", reverse=True))
    assert_reads_the_database(embedded.exists(FIELD).sort_by("filepath", reverse=True))


def test_a_failed_sample_keeps_its_reason(embedded):
    skipped = read_vectors(embedded, FIELD, dim_of(embedded)).skipped
    (reason,) = skipped.values()
    assert "could not be embedded" in reason


def stored_in(dataset):
    return read_store(store_folder(dataset, FIELD))


def test_new_samples_are_added_behind_and_those_gone_are_removed(
    embedded, fill, pictures, checkpoint
):
    folder = store_folder(embedded, FIELD)
    before = {path: path.read_bytes() for path in folder.glob("*-*.bin")}
    fill(draw_many(pictures / "more", 2, first_seed=100))
    embedded.delete_samples(embedded.limit(2))
    assert_reads_the_database(embedded)  # also while the copy knows nothing of it
    embed(embedded, checkpoint, progress=False)
    for path, old in before.items():
        assert path.read_bytes()[: len(old)] == old
        assert len(path.read_bytes()) == len(old) * 14 // 12
    assert_reads_the_database(embedded)
    assert [name.split()[0] for name in stored_in(embedded).names] == embedded.exists(FIELD).values(
        "id"
    )
    embedded.delete_samples(embedded.limit(4))
    embed(embedded, checkpoint, progress=False)
    assert stored_in(embedded).manifest.count == 8  # many are gone: the files are written anew
    assert_reads_the_database(embedded)


def test_embedding_nothing_new_writes_nothing(embedded, checkpoint):
    folder = store_folder(embedded, FIELD)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.*n*")}
    embed(embedded, checkpoint, progress=False)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.*n*")} == before


def test_an_image_embedded_again_is_read_anew(embedded, pictures, checkpoint, database_reads):
    first = embedded.first()
    draw(first.filepath, 77)
    embed(embedded, checkpoint, progress=False)
    first.reload()
    database_reads.clear()
    found = read_vectors(embedded, FIELD, dim_of(embedded))
    assert database_reads == [12]  # compared only: the copy has them all
    np.testing.assert_array_equal(found.vectors[found.row_of[first.id]], first[FIELD])


def test_overwriting_makes_the_copy_anew(embedded, checkpoint, caplog, database_reads):
    made_up = dict.fromkeys(
        embedded.exists(FIELD).values("id"), np.ones(dim_of(embedded), np.float32)
    )
    embedded.set_values(FIELD, made_up, key_field="id")
    embed(embedded, checkpoint, overwrite=True, progress=False)
    database_reads.clear()
    with caplog.at_level(logging.WARNING):
        assert_reads_the_database(embedded)
    assert database_reads == [12]
    assert "Something else" not in caplog.text
    assert len(stored_in(embedded).names) == 12


def test_a_view_without_the_fields_is_read_like_any_other(embedded):
    found = read_vectors(embedded.skip(2).limit(4).select_fields("tags"), FIELD, dim_of(embedded))
    assert found.ids == embedded.skip(2).limit(4).values("id")


def test_a_field_that_something_else_wrote_is_read_from_the_database(embedded, caplog):
    made_up = {
        id_: np.full(dim_of(embedded), n + 1, np.float32)
        for n, id_ in enumerate(embedded.exists(FIELD).values("id"))
    }
    embedded.set_values(FIELD, made_up, key_field="id")
    with caplog.at_level(logging.WARNING):
        assert_reads_the_database(embedded)
    assert "Something else has written" in caplog.text


@pytest.mark.parametrize("damage", ["flip", "truncate", "manifest", "remove"])
def test_a_damaged_copy_costs_nothing_but_time(embedded, checkpoint, damage, caplog):
    folder = store_folder(embedded, FIELD)
    vectors = next(folder.glob("vectors-*.bin"))
    if damage == "flip":
        data = bytearray(vectors.read_bytes())
        data[-5] ^= 0xFF
        vectors.write_bytes(data)
    elif damage == "truncate":
        vectors.write_bytes(vectors.read_bytes()[:-100])
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        vectors.unlink()
    with caplog.at_level(logging.WARNING):
        assert_reads_the_database(embedded)
    assert "read instead" in caplog.text
    embed(embedded, checkpoint, progress=False)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert_reads_the_database(embedded)
    assert caplog.text == ""  # embedding has mended it


def test_a_copy_that_cannot_be_written_does_not_stop_embedding(
    dataset, fill, pictures, checkpoint, caplog
):
    fill(draw_many(pictures, 3))
    folder = store_folder(dataset, FIELD)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        report = embed(dataset, checkpoint, progress=False)
    assert report.computed == 3
    assert "read the database instead" in caplog.text


def test_upgrading_leaves_a_copy_too(embedded, checkpoint, database_reads, monkeypatch):
    had = embedded.exists(FIELD)
    embedded.add_sample_field("old", fo.VectorField)
    values = dict(zip(*had.values(["id", FIELD]), strict=True))
    embedded.set_values("old", values, key_field="id")
    upgrade(embedded, "old", checkpoint)
    assert (store_folder(embedded, "old") / "manifest.json").exists()
    monkeypatch.setattr(reading, "SPOT_CHECKS", 1)
    database_reads.clear()
    found = read_vectors(embedded, "old", len(embedded.first()["old"]))
    assert database_reads == [1]
    np.testing.assert_array_equal(found.vectors, np.array(embedded.exists("old").values("old")))
