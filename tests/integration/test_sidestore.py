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
    # The two rows that are compared, and the sample without a vector, for its reason.
    assert database_reads == [2, 1]
    assert_reads_the_database(embedded.skip(3).limit(5))
    assert_reads_the_database(embedded.sort_by("filepath", reverse=True))


def test_a_failed_sample_keeps_its_reason(embedded):
    skipped = read_vectors(embedded, FIELD, dim_of(embedded)).skipped
    (reason,) = skipped.values()
    assert "could not be embedded" in reason


def test_samples_that_are_new_or_gone_are_seen(embedded, fill, pictures, checkpoint, monkeypatch):
    monkeypatch.setattr(reading, "REFRESH_SHARE", 0.5)
    fill(draw_many(pictures / "more", 2, first_seed=100))
    before = (store_folder(embedded, FIELD) / "manifest.json").read_bytes()
    embed(embedded, checkpoint, progress=False)
    assert (store_folder(embedded, FIELD) / "manifest.json").read_bytes() == before
    embedded.delete_samples(embedded.limit(2))
    assert_reads_the_database(embedded)
    assert len(read_vectors(embedded, FIELD, dim_of(embedded)).ids) == 12


def test_an_image_embedded_again_is_read_anew(embedded, pictures, checkpoint, monkeypatch):
    monkeypatch.setattr(reading, "REFRESH_SHARE", 0.5)
    first = embedded.first()
    draw(first.filepath, 77)
    embed(embedded, checkpoint, progress=False)
    first.reload()
    found = read_vectors(embedded, FIELD, dim_of(embedded))
    np.testing.assert_array_equal(found.vectors[found.row_of[first.id]], first[FIELD])


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
def test_a_damaged_copy_costs_nothing_but_time(embedded, damage, caplog):
    folder = store_folder(embedded, FIELD)
    vectors = next(folder.glob("vectors-*.npy"))
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
    assert database_reads == [1, 1]
    np.testing.assert_array_equal(found.vectors, np.array(embedded.exists("old").values("old")))
