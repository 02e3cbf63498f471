"""The data that properties are tried on: heads with bands, and vectors hard on an index."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from fiftyone_isoclip.projector import Band, Head, Spectrum

# A busy machine is no failure: no test here is about time.
settings.register_profile("fiftyone-isoclip", deadline=None)
settings.load_profile("fiftyone-isoclip")

DTYPES = (np.float16, np.float32, np.float64)


def seeds():
    """Random generators; Hypothesis shrinks and replays them by their seed."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def unit_rows(rng, n, dim):
    rows = rng.normal(size=(n, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered_rows(rng, n, dim):
    """Rows around a few centres, from almost equal to loose."""
    centres = unit_rows(rng, max(1, n // 5), dim)
    spread = rng.choice([1e-4, 1e-2, 0.1, 0.5])
    return centres[rng.integers(len(centres), size=n)] + spread * unit_rows(rng, n, dim)


def duplicated_rows(rng, n, dim):
    """A few rows, each repeated exactly, in any order."""
    return unit_rows(rng, max(1, n // 3), dim)[rng.integers(max(1, n // 3), size=n)]


def identical_rows(rng, n, dim):
    return np.repeat(unit_rows(rng, 1, dim), n, axis=0)


def lattice_rows(rng, n, dim):
    """Rows of -1, 0 and 1: many pairs have exactly the same cosine."""
    rows = rng.integers(-1, 2, size=(n, dim)).astype(np.float64)
    rows[~rows.any(axis=1), 0] = 1.0
    return rows


def decaying_rows(rng, n, dim):
    """A common mean and a decaying spectrum, as CLIP embeddings have them."""
    rows = rng.normal(size=(n, dim)) / np.sqrt(np.arange(1, dim + 1))
    rows[:, 0] += 1.5
    return rows @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]


KINDS = (
    unit_rows,
    clustered_rows,
    duplicated_rows,
    identical_rows,
    lattice_rows,
    decaying_rows,
)


@st.composite
def vectors(draw, *, least_n=0, most_n=40, least_dim=1, most_dim=24):
    """A table of vectors of any kind, length and float type: (n, dim)."""
    rng = draw(seeds())
    n = draw(st.integers(least_n, most_n))
    dim = draw(st.integers(least_dim, most_dim))
    table = draw(st.sampled_from(KINDS))(rng, n, dim)
    if draw(st.booleans()):
        table = table * np.exp(rng.normal(size=(n, 1)))
    return table.astype(draw(st.sampled_from(DTYPES)))


def similarities():
    """Thresholds a search may be asked for, the ends included."""
    ends = st.sampled_from([1.0, float(np.nextafter(1, 0)), 0.0, 0.5, np.sqrt(0.5), -0.999])
    return st.one_of(ends, st.floats(-0.99, 1.0), st.floats(0.9, 1.0))


@st.composite
def pairs_of_heads(draw, *, least_rank=1):
    """An image and a text head with the same dim, any shapes, with or without a bias."""
    dim = draw(st.integers(max(2, least_rank), 14))
    features = st.integers(least_rank, 20)
    rng = draw(seeds())

    def head(inputs, biased):
        return Head(rng.normal(size=(dim, inputs)), rng.normal(size=dim) if biased else None)

    return (
        head(draw(features), draw(st.booleans())),
        head(draw(features), draw(st.booleans())),
        rng,
    )


@st.composite
def heads_and_bands(draw):
    """A pair of heads, their spectrum, a band that keeps something of it, and embeddings."""
    image, text, rng = draw(pairs_of_heads())
    spectrum = Spectrum.between(image, text)
    top = draw(st.integers(0, spectrum.rank - 1))
    band = Band(top, draw(st.integers(0, spectrum.rank - 1 - top)))
    embeddings = rng.normal(size=(6, image.matrix.shape[1])) @ image.matrix.T
    return image, text, spectrum, band, embeddings, rng
