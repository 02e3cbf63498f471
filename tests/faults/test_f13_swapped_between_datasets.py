"""A file of one dataset in the place of another's is never taken for its own."""

from __future__ import annotations

import logging
import shutil
import uuid

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import embed, find_duplicates, load_run
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.sidestore import store_folder
from fiftyone_isoclip.dataset.thresholds import border_pairs
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index import search
from tests.integration.similarity.oracles import compute, unit
from tests.pictures import draw_many

FIELD = "clip_embedding"


@pytest.fixture
def other():
    made = fo.Dataset(f"test-{uuid.uuid4().hex}")
    yield made
    made.delete()


@pytest.fixture
def both(dataset, other, pictures):
    """Two datasets of other pictures."""
    for number, each in enumerate((dataset, other)):
        paths = draw_many(pictures / str(number), 8, first_seed=100 * number)
        each.add_samples([fo.Sample(filepath=str(path)) for path in paths], progress=False)
    return dataset, other


def side_files(kind, dataset):
    return sorted((side_folder() / kind / str(dataset._doc.id)).iterdir())


def test_f13_vectors_in_files_alone_that_are_another_dataset_s(both, checkpoint):
    for each in both:
        embed(each, checkpoint, on_samples=False, progress=False)
    dataset, other = both
    right = find_duplicates(dataset, similarity=0.5).groups
    folder = store_folder(dataset, FIELD)
    shutil.rmtree(folder)
    shutil.copytree(store_folder(other, FIELD), folder)
    with pytest.raises(DatasetError, match=rf"holds 0 of .*embed\(dataset, .*'{FIELD}'\)"):
        find_duplicates(dataset, similarity=0.5)
    assert embed(dataset, checkpoint, progress=False).computed == 8
    assert find_duplicates(dataset, similarity=0.5).groups == right


def test_f13_a_copy_that_is_another_dataset_s_is_not_read(both, checkpoint):
    for each in both:
        embed(each, checkpoint, progress=False)
    dataset, other = both
    right = find_duplicates(dataset, similarity=0.5).groups
    folder = store_folder(dataset, FIELD)
    shutil.rmtree(folder)
    shutil.copytree(store_folder(other, FIELD), folder)
    assert find_duplicates(dataset, similarity=0.5).groups == right


def test_f13_pairs_that_are_another_dataset_s(both, checkpoint, caplog):
    for each in both:
        embed(each, checkpoint, progress=False)
        find_duplicates(each, similarity=0.6, least=0.5)
    dataset, other = both
    right = find_duplicates(dataset, similarity=0.7, key="fresh").groups
    (path,), (foreign,) = (side_files("pairs", each) for each in both)
    shutil.copy(foreign, path)
    with caplog.at_level(logging.WARNING):
        assert border_pairs(dataset, load_run(dataset, "duplicates")) is None
    assert f"{path} is of dataset {other._doc.id}" in caplog.text
    assert "find_duplicates(dataset" in caplog.text
    assert find_duplicates(dataset, similarity=0.7, least=0.5).groups == right


def test_f13_an_inverted_file_that_is_another_dataset_s(dataset, other, seed, monkeypatch):
    register()
    monkeypatch.setattr(search, "FLAT_LIMIT", 100)
    draw = np.random.default_rng(seed)
    tables = [draw.normal(size=(300, 16)).astype(np.float32) for _ in range(2)]
    for each, table in zip((dataset, other), tables, strict=True):
        samples = [fo.Sample(filepath=f"/nowhere/{row}.png") for row in range(300)]
        for sample, vector in zip(samples, table, strict=True):
            sample[FIELD] = vector
        each.add_samples(samples, progress=False)
        said = {"model": None, "model_kwargs": None, "embeddings_field": FIELD}
        compute(each, brain_key="found", **said).prepare()
    (path,), (foreign,) = (side_files("search", each) for each in (dataset, other))
    shutil.copy(foreign, path)
    dataset.clear_cache()
    dataset._brain_cache.clear()
    ids, rows = dataset.values("id"), unit(tables[0].astype(np.float64))
    missed = 0
    for row in range(0, 300, 10):
        found = dataset.sort_by_similarity(ids[row], k=10, brain_key="found").values("id")
        assert found[0] == ids[row]
        missed += len({ids[n] for n in np.argsort(-(rows @ rows[row]))[:10]} - set(found))
    assert missed <= 3
