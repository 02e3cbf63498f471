"""The rewritten projector as a linear map on ordinary CLIP embeddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import BandError, VectorError
from fiftyone_isoclip.projector.band import Band
from fiftyone_isoclip.projector.head import Floats, Head

_BLOCK_ROWS = 2048
"""Rows mapped at a time, so that a float16 or memory-mapped source is never copied whole."""

_SAFE = (1e-15, 1e15)
"""Largest numbers of a row between these have squares, and sums of squares, within float32."""

_AT_THE_CENTRE = 1e-5
"""Within this of the centre an embedding of length 1, stored as float32, has no direction from it:
float32 leaves 1e-7 of an embedding to chance, and that of its direction would be a hundredth."""


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Maps plain CLIP embeddings to IsoCLIP embeddings: ``M e = theta z~`` for every image.

    Shapes: ``matrix`` is P (k, r), the compressed map that is used; ``basis`` is Q (r, k) with
    orthonormal columns and ``oblique`` is ``M = Q P`` (r, r), the rewritten projector itself.
    P keeps every inner product of M, with k numbers instead of r.

    ``condition`` (1 or more) is that of the head: how far its pseudo-inverse can amplify the
    rounding of an embedding.

    ``centre`` (r,), of a centred band alone, is taken off every embedding once that has length 1:
    ``M (e / |e| - c)``.

    Source: the paper, section 4: ``theta = A U_mid U_mid^T``; U_mid lies in the row space of A,
    hence ``theta z~ = A U_mid U_mid^T A^+ e``.
    """

    matrix: Floats
    basis: Floats
    band: Band
    condition: float
    centre: Floats | None = None

    @classmethod
    def of_directions(cls, head: Head, directions: Floats, band: Band) -> EmbeddingMap:
        """The map that keeps some directions (q, k), given in the row space of the head.

        With ``A = X D Y^T`` and ``U_mid = Y u``: ``A U_mid = X D u = Q R`` and
        ``P = R U_mid^T A^+ = R u^T D^-1 X^T``.
        """
        left, scale, _ = head.decomposition
        spanned = left @ (scale[:, None] * directions)
        # All of the space needs no other axes: embeddings and what is mapped are then the same.
        is_all = spanned.shape[0] == spanned.shape[1]
        basis, triangle = (np.eye(len(spanned)), spanned) if is_all else np.linalg.qr(spanned)
        matrix = triangle @ (directions.T / scale) @ left.T
        return cls(matrix, basis, band, head.condition)

    def centred_on(self, centre: npt.ArrayLike) -> EmbeddingMap:
        """The map of the same band, centred: ``centre`` (r,) is in units of embeddings of length 1.

        Raises:
            VectorError: the centre has another dim, or is not finite.
        """
        point = np.asarray(centre, dtype=np.float64)
        if point.shape != (self.plain_dim,) or not np.isfinite(point).all():
            raise VectorError(
                f"a centre of shape {point.shape} was given to a map on {self.plain_dim} "
                f"dimensions; give {self.plain_dim} finite numbers, fitted on plain embeddings of "
                "the same checkpoint"
            )
        return replace(self, band=replace(self.band, centred=True), centre=point)

    @property
    def dim(self) -> int:
        """k, the dim of the IsoCLIP embeddings."""
        return int(self.matrix.shape[0])

    @property
    def plain_dim(self) -> int:
        """r, the dim of the plain CLIP embeddings."""
        return int(self.matrix.shape[1])

    @property
    def oblique(self) -> Floats:
        """``M`` of shape (r, r), with ``M M = M``."""
        return self.basis @ self.matrix

    def __call__(self, embeddings: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Map plain embeddings of any scale: (n, r) -> (n, k) float32 rows of length 1.

        Raises:
            VectorError: the dim is another one, or a row is not finite, becomes zero, or lies at
                the centre.
        """
        return _unit_rows(embeddings, self.matrix, self.centre)

    def query(self, embeddings: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Bring plain embeddings of the *other* modality into this space: (n, r) -> (n, k).

        Their inner product with a mapped embedding ranks as theirs with ``M e`` does:
        ``e_t^T M e_i = (Q^T e_t)^T (P e_i)``. A centre is of the images: texts keep their place.

        Raises:
            VectorError: the dim is another one, or a row is not finite or becomes zero.
        """
        return _unit_rows(embeddings, self.basis.T)

    def folded_into(self, head: Head, *, compressed: bool = True) -> Head:
        """A head that gives IsoCLIP embeddings at CLIP's own cost: weight (k, in) or (r, in).

        Raises:
            VectorError: the head's dim is not that of the map.
            BandError: the map is centred.
        """
        if self.centre is not None:
            raise BandError(
                f"band {self.band} cannot be folded into a head: it brings embeddings to length 1 "
                f"before it takes its centre off, and a head is linear; fold "
                f"{replace(self.band, centred=False)}, or map the embeddings"
            )
        if head.dim != self.plain_dim:
            raise VectorError(
                f"a map on {self.plain_dim} dimensions cannot be folded into a head of "
                f"{head.dim}; take both from the same checkpoint"
            )
        matrix = self.matrix if compressed else self.oblique
        return Head(matrix @ head.weight, None if head.bias is None else matrix @ head.bias)


def _unit_rows(
    embeddings: npt.ArrayLike, matrix: Floats, centre: Floats | None = None
) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[Any] = np.asarray(embeddings)
    if rows.ndim != 2 or rows.shape[1] != matrix.shape[1]:
        raise VectorError(
            f"embeddings of shape {rows.shape} were given to a map on {matrix.shape[1]} "
            f"dimensions; give (n, {matrix.shape[1]}) from the same checkpoint"
        )
    matrix32 = np.ascontiguousarray(matrix.T, dtype=np.float32)
    mapped = np.empty((len(rows), matrix.shape[0]), np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = _tamed(rows[start : start + _BLOCK_ROWS], start)
        if centre is not None:
            block = _from_centre(block, centre, start)
        block = block @ matrix32
        block = _tamed(block, start)
        block /= np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
        mapped[start : start + _BLOCK_ROWS] = block
    return mapped


def _from_centre(
    rows: npt.NDArray[np.float32], centre: Floats, start: int
) -> npt.NDArray[np.float32]:
    """Rows at length 1, less the centre; in float64, because most of a row may cancel."""
    units = rows.astype(np.float64)
    units /= np.sqrt(np.einsum("ij,ij->i", units, units))[:, None]
    units -= centre
    near = np.flatnonzero(np.einsum("ij,ij->i", units, units) < _AT_THE_CENTRE**2)
    if near.size:
        raise VectorError(
            f"{near.size} of {len(rows)} rows lie at the centre and have no direction from it, the "
            f"first is row {start + near[0]}; leave such rows out, or use a band that is not "
            "centred"
        )
    return units.astype(np.float32)


def _tamed(rows: npt.NDArray[Any], start: int) -> npt.NDArray[np.float32]:
    """Rows as float32 numbers whose squares neither vanish nor overflow; directions are kept."""
    rows = rows.astype(np.float64 if rows.dtype == np.float64 else np.float32, copy=False)
    largest = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
    bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0))
    if bad.size:
        raise VectorError(
            f"{bad.size} of {len(rows)} rows hold NaN, infinity or only zeros, the first is row "
            f"{start + bad[0]}; leave such rows out before mapping"
        )
    if largest.min(initial=1.0) < _SAFE[0] or largest.max(initial=1.0) > _SAFE[1]:
        rows = rows / largest[:, None]
    return np.asarray(rows, dtype=np.float32)
