"""Made vectors: as CLIP's (a common mean, clusters, a decaying spectrum) or without structure.

Both hold near-copies of one row in a hundred, with cosines of about .955 to 1 to their originals.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float32]

_BLOCK = 50_000
_COPIES = 100
_ROWS_A_CLUSTER = 200
_NOISE = 0.3


def clip_like(n: int, dim: int, seed: int = 0) -> Table:
    """Draw unit rows with a mean cosine of about .5: (n, dim).

    Half the variance lies between clusters, whose sizes follow Zipf's law with exponent 1/2, and
    the variance along the i-th direction is proportional to 1/i both between and inside them.
    """
    rng = np.random.default_rng(seed)
    scales = (1 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    scales /= np.linalg.norm(scales)
    count = max(2, n // _ROWS_A_CLUSTER)
    centres = rng.standard_normal((count, dim), np.float32) * scales
    shares = 1 / np.sqrt(np.arange(1, count + 1))
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
    rows = np.empty((n, dim), np.float32)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        owners = rng.choice(count, size=size, p=shares / shares.sum())
        block = rng.standard_normal((size, dim), np.float32) * scales
        block = (centres[owners] + block) * np.float32(np.sqrt(0.5))
        block[:, 0] += 1.0
        rows[start : start + size] = _unit(block @ rotation)
    return _with_copies(rows, rng)


def flat(n: int, dim: int, seed: int = 0) -> Table:
    """Draw unit rows of full rank, all directions alike: (n, dim)."""
    rng = np.random.default_rng(seed)
    rows = np.empty((n, dim), np.float32)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        rows[start : start + size] = _unit(rng.standard_normal((size, dim), np.float32))
    return _with_copies(rows, rng)


def _with_copies(rows: Table, rng: np.random.Generator) -> Table:
    """Replace some rows by near-copies of others."""
    n, dim = rows.shape
    count = n // _COPIES
    places = rng.permutation(n)[: 2 * count]
    originals, copies = places[:count], places[count:]
    noise = rng.standard_normal((count, dim), np.float32) / np.float32(np.sqrt(dim))
    noise *= rng.uniform(0, _NOISE, size=(count, 1)).astype(np.float32)
    rows[copies] = _unit(rows[originals] + noise)
    return rows


def _unit(rows: Table) -> Table:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
