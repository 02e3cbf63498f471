from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset.similarity import FaissSimilarityIndex
from fiftyone_isoclip.dataset.similarity_changes import IndexChanges, find_changes
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import DatasetError
from tests.integration.similarity.oracles import (
    FIELD,
    Floats,
    N,
    compute,
    fill,
    ordered,
)


def test_vectors_are_added_replaced_and_removed(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    new = dataset.add_sample(fo.Sample(filepath="/nowhere/new.png"))
    index.add_to_index(np.stack([plain[7] * 3, plain[8]]), [new, ids[0]])

    assert index.total_index_size == N + 1
    assert set(index.sort_by_similarity(ids[7], k=2).values("id")) == {ids[7], new}
    np.testing.assert_array_equal(dataset[new][FIELD], plain[7] * 3)
    np.testing.assert_array_equal(dataset[ids[0]][FIELD], plain[8])

    index.add_to_index(plain[:1], [ids[0]], overwrite=False)
    np.testing.assert_array_equal(dataset[ids[0]][FIELD], plain[8])
    with pytest.raises(DatasetError, match=ids[0]):
        index.add_to_index(plain[:1], [ids[0]], overwrite=False, allow_existing=False)

    index.remove_from_index(sample_ids=[new])
    assert index.total_index_size == N
    assert dataset[new][FIELD] is None
    assert new not in index.sort_by_similarity(ids[7]).values("id")
    with pytest.raises(DatasetError, match=new):
        index.remove_from_index(sample_ids=[new], allow_missing=False)


def test_adding_changes_no_distance_between_others(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats
) -> None:
    before = index._kneighbors(query=ids[1], return_dists=True)
    new = dataset.add_sample(fo.Sample(filepath="/nowhere/new.png"))
    index.add_to_index(-plain[:1] * 50, [new])
    index.remove_from_index(sample_ids=[new])
    assert index._kneighbors(query=ids[1], return_dists=True) == before


def test_f08_vectors_without_direction_never_enter(
    dataset: fo.Dataset, plain: Floats, caplog: pytest.LogCaptureFixture
) -> None:
    plain[3, 5], plain[9, 0], plain[12] = np.nan, np.inf, 0
    ids = fill(dataset, plain)

    index = compute(dataset, embeddings=FIELD, brain_key="found")

    assert index.total_index_size == N - 3
    assert "3 of 30 vectors" in caplog.text
    assert all(ids[row] in caplog.text for row in (3, 9, 12))
    found = dataset.sort_by_similarity(ids[0], brain_key="found", k=N).values("id")
    assert len(found) == N - 3
    assert not {ids[3], ids[9], ids[12]} & set(found)
    new = dataset.add_sample(fo.Sample(filepath="/nowhere/new.png"))
    index.add_to_index(np.zeros((1, plain.shape[1])), [new])
    assert new not in index.sample_ids


@pytest.mark.parametrize("n", [0, 1, 2])
def test_f09_hardly_any_samples(dataset: fo.Dataset, plain: Floats, n: int) -> None:
    dataset.add_sample_field(FIELD, fo.VectorField)
    ids = fill(dataset, plain[:n])
    index = compute(dataset, embeddings_field=FIELD, brain_key="found")

    index.find_duplicates(thresh=0.01)

    assert index.duplicate_ids == []
    assert [str(id_) for id_ in index.unique_ids] == ids
    assert sorted(dataset.sort_by_similarity("red", brain_key="found").values("id")) == sorted(ids)
    for id_ in ids:
        assert index.sort_by_similarity(id_, k=5).values("id")[0] == id_
    assert [len(found) for found in index._kneighbors()] == [max(0, n - 1)] * n


def test_f09_all_samples_the_same(dataset: fo.Dataset, plain: Floats) -> None:
    ids = fill(dataset, plain[[0] * 12])
    index = compute(dataset, embeddings=FIELD)
    index.find_duplicates(thresh=0.0)
    assert [str(id_) for id_ in index.unique_ids] == ids[:1]
    index.find_unique(3)
    assert len(index.unique_ids) == 3


@pytest.mark.parametrize("is_external", [True, False])
def test_f10_deleted_samples_take_nobody_s_place(
    dataset: fo.Dataset, plain: Floats, clip: Clip, is_external: bool
) -> None:
    ids = fill(dataset, plain)
    where = {"embeddings": plain} if is_external else {"embeddings_field": FIELD}
    index = compute(dataset, brain_key="found", **where)
    assert index.is_external == is_external
    order = ordered(ids, clip.isoclip()(plain) @ clip.isoclip()(plain)[4])
    dataset.delete_samples(order[1:6])

    found = dataset.sort_by_similarity(order[0], brain_key="found", k=10).values("id")

    assert found == [order[0], *order[6:15]]
    assert index.total_index_size == N - 5


def test_f18_searches_during_an_update_are_right(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats
) -> None:
    before = {id_: index._kneighbors(query=id_, k=4) for id_ in ids}
    new = dataset.add_samples([fo.Sample(filepath=f"/nowhere/new-{row}.png") for row in range(20)])
    far = -100 * np.abs(plain[:20])  # nobody's neighbours

    def search(row: int) -> bool:
        return index._kneighbors(query=ids[row % N], k=4) == before[ids[row % N]]

    with ThreadPoolExecutor(8) as searchers:
        answers = [searchers.submit(search, row) for row in range(60)]
        for id_, vector in zip(new, far, strict=True):
            index.add_to_index(vector[None], [id_])
            index.remove_from_index(sample_ids=[id_])
            answers += [searchers.submit(search, row) for row in range(5)]

    assert all(answer.result() for answer in answers)


def test_f10_what_changed_since_is_told_and_brought_up_to_date(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats
) -> None:
    assert not find_changes(index)
    dataset.delete_samples(ids[:2])
    dataset.set_values(FIELD, {ids[5]: plain[6], ids[7]: None}, key_field="id")
    new = dataset.add_sample(fo.Sample(filepath="/nowhere/new.png", clip_embedding=plain[0]))

    found = find_changes(index)

    assert found == IndexChanges(new=[new], gone=[*ids[:2], ids[7]], changed=[ids[5]])
    assert str(found) == "1 new, 3 gone, 1 changed"
    index.reload()
    assert not find_changes(index)
    assert set(index.sort_by_similarity(ids[6], k=2).values("id")) == {ids[5], ids[6]}


def test_of_an_id_given_twice_the_last_vector_counts(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats
) -> None:
    index.add_to_index(plain[[3, 8]], [ids[0], ids[0]])
    assert index.total_index_size == N
    assert set(index.sort_by_similarity(ids[8], k=2).values("id")) == {ids[0], ids[8]}
    np.testing.assert_array_equal(dataset[ids[0]][FIELD], plain[8])


def test_an_index_built_before_there_were_embeddings_learns_of_them(
    dataset: fo.Dataset, plain: Floats, clip: Clip
) -> None:
    dataset.add_sample_field(FIELD, fo.VectorField)
    compute(dataset, embeddings_field=FIELD, brain_key="found")
    ids = fill(dataset, plain)
    dataset.clear_cache()
    dataset._brain_cache.clear()  # as in a new session

    images = clip.isoclip()(plain)
    found = dataset.sort_by_similarity(ids[4], brain_key="found").values("id")
    assert found == ordered(ids, images @ images[4])
