"""What the tests of the similarity backend share."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex

NAME = "isoclip-demo"
FIELD = "clip_embedding"
N = 30
EXACT = {"precision": "float32"}

Floats = npt.NDArray[np.floating]


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def fill(dataset: fo.Dataset, plain: Floats) -> list[str]:
    samples = [fo.Sample(filepath=f"/nowhere/{row}.png") for row in range(len(plain))]
    for sample, vector in zip(samples, plain, strict=True):
        sample[FIELD] = vector
    ids: list[str] = dataset.add_samples(samples)
    return ids


def compute(dataset: fo.Dataset, **changes: object) -> FaissSimilarityIndex:
    said = {"model": NAME, "model_kwargs": EXACT, "backend": "faiss"} | changes
    found = fob.compute_similarity(dataset, **said)
    assert isinstance(found, FaissSimilarityIndex)
    return found


def ordered(ids: list[str], scores: Floats, *, rows: list[int] | None = None) -> list[str]:
    """Brute force: ids by score, highest first."""
    rows = list(range(len(ids))) if rows is None else rows
    return [ids[row] for row in sorted(rows, key=lambda row: -scores[row])]


def check_order(found: list[str], ids: list[str], scores: Floats) -> None:
    """The best ids in order, up to ties: pictures can be as similar as rounding allows."""
    got = np.array([scores[ids.index(id_)] for id_ in found])
    assert len(set(found)) == len(found)
    np.testing.assert_allclose(got, np.sort(scores)[::-1][: len(found)], atol=1e-6)
