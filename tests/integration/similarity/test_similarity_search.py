"""Runs of many vectors: searched by an inverted file that is kept, found damaged, and deleted."""

from __future__ import annotations

import logging
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.index import search
from tests.integration.similarity.oracles import FIELD, Floats, compute, fill, unit
from tests.strategies import clustered_rows

MANY, DIM = 900, 24
NO_MODEL = {"model": None, "model_kwargs": None}


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    monkeypatch.setattr(search, "FLAT_LIMIT", 300)


@pytest.fixture
def many() -> Floats:
    return clustered_rows(np.random.default_rng(2), MANY, DIM).astype(np.float32)


@pytest.fixture
def many_ids(dataset: fo.Dataset, many: Floats) -> list[str]:
    return fill(dataset, many)


def run_file(dataset: fo.Dataset) -> Path:
    return side_folder() / "search" / str(dataset._doc.id) / "found.inverted"


def as_in_a_new_session(dataset: fo.Dataset) -> FaissSimilarityIndex:
    dataset.clear_cache()
    dataset._brain_cache.clear()
    index = dataset.load_brain_results("found")
    assert isinstance(index, FaissSimilarityIndex)
    return index


def best(ids: list[str], vectors: Floats, query: Floats, k: int) -> set[str]:
    scores = unit(vectors.astype(np.float64)) @ unit(query.astype(np.float64))
    return {ids[row] for row in np.argsort(-scores)[:k]}


def recall(found: list[list[str]], ids: list[str], vectors: Floats, rows: list[int]) -> float:
    right = [best(ids, vectors, vectors[row], 10) for row in rows]
    return float(np.mean([len(a & set(b)) / 10 for a, b in zip(right, found, strict=True)]))


@pytest.mark.parametrize("is_external", [True, False])
def test_a_run_is_reopened_without_training(
    dataset: fo.Dataset,
    many: Floats,
    many_ids: list[str],
    is_external: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {"embeddings": many} if is_external else {"embeddings_field": FIELD}
    index = compute(dataset, brain_key="found", **where, **NO_MODEL)
    rows = list(range(0, MANY, 9))
    queries = [many_ids[row] for row in rows]
    found, _, distances = index._kneighbors(query=queries, k=25, return_dists=True)
    assert recall(found, many_ids, many, rows) >= 0.99
    assert dataset.get_brain_info("found").config.search.startswith("inverted file: ")

    monkeypatch.setattr(search, "train", pytest.fail)
    again = as_in_a_new_session(dataset)

    assert again is not index
    assert again._kneighbors(query=queries, k=25, return_dists=True) == (found, None, distances)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "gone"])
def test_f13_a_damaged_file_is_said_and_made_anew(
    dataset: fo.Dataset, many_ids: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = compute(dataset, brain_key="found", embeddings_field=FIELD, **NO_MODEL)
    right = index._kneighbors(query=many_ids[:50], k=25)
    path = run_file(dataset)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes({"truncated": data[:-9], "empty": b""}.get(damage, data))
    if damage == "gone":
        path.unlink()

    with caplog.at_level(logging.INFO):
        again = as_in_a_new_session(dataset)
        assert again._kneighbors(query=many_ids[:50], k=25) == right

    assert ("found.inverted is damaged" in caplog.text) == (damage != "gone")
    assert "Making a search index of 900 vectors" in caplog.text
    caplog.clear()
    as_in_a_new_session(dataset)._kneighbors(query=many_ids[0], k=25)
    assert "Making" not in caplog.text


def test_f10_what_changed_between_two_sessions_is_found_without_training(
    dataset: fo.Dataset, many: Floats, many_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(dataset, brain_key="found", embeddings_field=FIELD, **NO_MODEL).prepare()
    dataset.delete_samples(many_ids[:30])
    dataset.set_values(FIELD, {many_ids[40]: many[500]}, key_field="id")
    late = dataset.add_sample(fo.Sample(filepath="/nowhere/late.png", clip_embedding=many[600]))
    monkeypatch.setattr(search, "train", pytest.fail)

    index = as_in_a_new_session(dataset)

    found, _, distances = index._kneighbors(query=many_ids[500], k=2, return_dists=True)
    assert set(found) == {many_ids[40], many_ids[500]}
    assert distances == [0, 0]
    assert set(index._kneighbors(query=late, k=2)[0]) == {late, many_ids[600]}
    nearest = index._kneighbors(query=many_ids[100:], k=25)[0]
    assert not {id_ for row in nearest for id_ in row} & set(many_ids[:30])


def test_rows_come_and_go_without_training(
    dataset: fo.Dataset, many: Floats, many_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = compute(dataset, brain_key="found", embeddings_field=FIELD, **NO_MODEL)
    index.prepare()
    monkeypatch.setattr(search, "train", pytest.fail)
    late = dataset.add_samples([fo.Sample(filepath=f"/nowhere/{row}-late.png") for row in range(9)])
    index.add_to_index(many[:9], late)
    found = index._kneighbors(query=late, k=2)[0]
    assert [set(row) for row in found] == [
        set(twins) for twins in zip(late, many_ids, strict=False)
    ]
    index.remove_from_index(sample_ids=late)
    assert not set(late) & set(index._kneighbors(query=many_ids[0], k=25)[0])


def test_a_view_is_searched_exactly(dataset: fo.Dataset, many: Floats, many_ids: list[str]) -> None:
    compute(dataset, brain_key="found", embeddings_field=FIELD, **NO_MODEL)
    rows = list(range(5, MANY, 3))
    view = dataset.select([many_ids[row] for row in rows])
    found = view.sort_by_similarity(many_ids[7], k=25, brain_key="found").values("id")
    assert set(found) == best([many_ids[row] for row in rows], many[rows], many[7], 25)
    least = dataset.sort_by_similarity(many_ids[7], k=25, reverse=True, brain_key="found")
    assert set(least.values("id")) == best(many_ids, -many, many[7], 25)


def test_deleting_the_run_deletes_its_file(dataset: fo.Dataset, many_ids: list[str]) -> None:
    compute(dataset, brain_key="found", embeddings_field=FIELD, **NO_MODEL).prepare()
    assert run_file(dataset).exists()
    dataset.delete_brain_run("found")
    assert not run_file(dataset).exists()
