from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.encoder import Clip, load_clip
from tests.integration.similarity.oracles import EXACT, FIELD, NAME, Floats, N, compute, fill


@pytest.fixture(scope="module")
def clip() -> Clip:
    register()
    return load_clip(NAME, **EXACT)


@pytest.fixture
def plain(clip: Clip) -> Floats:
    """Plain embeddings as CLIP makes them: a strong common mean and uneven directions."""
    random = np.random.default_rng(7)
    tilt = np.linspace(2, 0.2, clip.dim)
    return (random.normal(size=(N, clip.dim)) * tilt + 1.5).astype(np.float32)


@pytest.fixture
def ids(dataset: fo.Dataset, plain: Floats) -> list[str]:
    """Samples that hold plain embeddings."""
    return fill(dataset, plain)


@pytest.fixture
def index(dataset: fo.Dataset, ids: list[str]) -> FaissSimilarityIndex:
    return compute(dataset, brain_key="found", embeddings_field=FIELD)
