from __future__ import annotations

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_isoclip.dataset.similarity import FaissSimilarityIndex
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from tests.integration.similarity.oracles import (
    FIELD,
    Floats,
    N,
    compute,
    fill,
    ordered,
)


@pytest.fixture
def copies(plain: Floats) -> Floats:
    """The embeddings with near-copies of rows 3, 3, 10 and 20 behind them."""
    noise = np.random.default_rng(1).normal(size=(4, plain.shape[1])) * 0.02
    return np.vstack([plain, plain[[3, 3, 10, 20]] + noise]).astype(np.float32)


def test_planted_copies_are_found_and_nothing_else(
    dataset: fo.Dataset, copies: Floats, clip: Clip
) -> None:
    ids = fill(dataset, copies)
    index = compute(dataset, embeddings=FIELD, brain_key="found")

    found = fob.compute_near_duplicates(dataset, similarity_index="found", threshold=0.01)

    assert isinstance(found, FaissSimilarityIndex)
    assert found.duplicate_ids == ids[N:]
    assert found.unique_ids == ids[:N]
    keepers = {id_: sorted(d for d, _ in group) for id_, group in found.neighbors_map.items()}
    assert keepers == {ids[3]: ids[N : N + 2], ids[10]: [ids[N + 2]], ids[20]: [ids[N + 3]]}
    images = clip.isoclip()(copies)
    for keeper, group in found.neighbors_map.items():
        for copy, distance in group:
            right = 1 - images[ids.index(keeper)] @ images[ids.index(copy)]
            assert distance == pytest.approx(right, abs=1e-5)
    assert len(found.duplicates_view()) == 7
    # The same query before and after: nothing was centred in place.
    assert (
        index.sort_by_similarity(ids[5], k=5).values("id") == ordered(ids, images @ images[5])[:5]
    )


def test_the_threshold_has_a_default(dataset: fo.Dataset, copies: Floats) -> None:
    ids = fill(dataset, copies)
    index = compute(dataset, embeddings=FIELD)
    index.find_duplicates()
    assert index.duplicate_ids == ids[N:]
    assert index.thresh == pytest.approx(1 - DEFAULT_SIMILARITY)


@pytest.mark.parametrize("n_gone", [2, 4, 12, 25])
def test_a_fraction_of_duplicates(
    dataset: fo.Dataset, copies: Floats, clip: Clip, n_gone: int
) -> None:
    ids = fill(dataset, copies)
    index = compute(dataset, embeddings=FIELD)

    index.find_duplicates(fraction=n_gone / len(ids))

    assert abs(len(index.duplicate_ids) - n_gone) <= 1
    check_distinct(index, ids, clip.isoclip()(copies))
    if n_gone == 4:
        assert index.duplicate_ids == ids[N:]


@pytest.mark.parametrize("count", [1, 5, 20, 34, 50])
def test_the_most_unique(dataset: fo.Dataset, copies: Floats, clip: Clip, count: int) -> None:
    ids = fill(dataset, copies)
    index = compute(dataset, embeddings=FIELD)

    index.find_unique(count)

    assert abs(len(index.unique_ids) - min(count, len(ids))) <= 1
    if count < len(ids):
        check_distinct(index, ids, clip.isoclip()(copies))


def check_distinct(index: FaissSimilarityIndex, ids: list[str], images: Floats) -> None:
    """No two that stay are closer than the threshold; all that go are that close to one."""
    stay = [ids.index(id_) for id_ in index.unique_ids]
    gone = [ids.index(id_) for id_ in index.duplicate_ids]
    distances = 1 - images @ images.T
    among = distances[np.ix_(stay, stay)] + 9 * np.eye(len(stay))
    assert among.min() >= index.thresh - 1e-5
    assert distances[np.ix_(gone, stay)].min(axis=1).max() <= index.thresh + 1e-5


def test_duplicates_of_a_view_are_looked_for_in_the_view(
    dataset: fo.Dataset, copies: Floats
) -> None:
    ids = fill(dataset, copies)
    index = compute(dataset, embeddings=FIELD)
    view = dataset.select([ids[row] for row in (N + 1, 4, 3, N + 2)], ordered=True)

    with index.use_view(view):
        index.find_duplicates(thresh=0.01)

    assert index.duplicate_ids == [ids[3]]
    assert list(index.neighbors_map) == [ids[N + 1]]
