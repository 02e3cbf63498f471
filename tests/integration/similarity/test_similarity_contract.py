from __future__ import annotations

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np

from fiftyone_isoclip.dataset.similarity import FaissSimilarityIndex
from fiftyone_isoclip.encoder import Clip
from tests.integration.similarity.oracles import (
    FIELD,
    Floats,
    N,
    compute,
    fill,
)


def test_without_a_query_neighbours_are_positions_in_the_view(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    rows = [25, 3, 17, 8, 29, 11]
    view = dataset.select([ids[row] for row in rows], ordered=True)
    images = clip.isoclip()(plain)[rows]
    scores = images @ images.T
    np.fill_diagonal(scores, -np.inf)

    with index.use_view(view):
        found, distances = index._kneighbors(k=2, return_dists=True)
        all_found = index._kneighbors()

    order = np.argsort(-scores, axis=1)
    assert [row.tolist() for row in found] == order[:, :2].tolist()
    assert [row.tolist() for row in all_found] == order[:, :-1].tolist()
    np.testing.assert_allclose(distances, 1 - np.sort(scores)[:, ::-1][:, :2], atol=1e-5)


def test_a_row_is_never_its_own_neighbour_even_among_copies(dataset: fo.Dataset) -> None:
    fill(dataset, np.ones((6, 8), np.float32))
    index = compute(dataset, model=None, model_kwargs=None, embeddings=FIELD)
    for row, found in enumerate(index._kneighbors(k=3)):
        assert len(found) == 3
        assert row not in found


def test_neighbours_within_a_radius(
    index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    distances = 1 - images @ images.T
    threshold = float(np.quantile(distances, 0.2))

    everything = index._radius_neighbors(thresh=threshold)
    one, _, how_far = index._radius_neighbors(query=ids[2], thresh=threshold, return_dists=True)

    for row, found in enumerate(everything):
        near = {c for c in range(N) if c != row and distances[row, c] <= threshold}
        assert set(found.tolist()) == near
    assert set(one) == {ids[row] for row in np.flatnonzero(distances[2] <= threshold)}
    assert how_far == sorted(how_far)


def test_brain_s_uniqueness_takes_the_index(
    dataset: fo.Dataset, index: FaissSimilarityIndex, plain: Floats, clip: Clip
) -> None:
    fob.compute_uniqueness(dataset, similarity_index="found")
    images = clip.isoclip()(plain)
    nearest = np.sort(1 - images @ images.T, axis=1)[:, 1:4]
    right = nearest @ [0.6, 0.3, 0.1]
    np.testing.assert_allclose(dataset.values("uniqueness"), right / right.max(), atol=1e-4)
