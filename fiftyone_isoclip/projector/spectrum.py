"""The spectrum of the inter-modal operator and the maps it gives for a band."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fiftyone_isoclip.errors import BandError, IsoClipError
from fiftyone_isoclip.projector.band import Band
from fiftyone_isoclip.projector.embedding_map import EmbeddingMap
from fiftyone_isoclip.projector.head import Floats, Head

_CUT_BELOW_LINE = 0.95
"""A direction under this share of the line through the middle half belongs to the bottom."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of ``Psi = A_i^T A_t`` and its directions, in float64.

    Shapes: ``values`` is (rank,), descending. ``image_directions`` (q_i, rank) and
    ``text_directions`` (q_t, rank) are the singular vectors U and V in the coordinates of each
    head's own row space, which is where they lie.

    Source: the paper, section 4 (inter-modal operator).
    """

    image: Head
    text: Head
    values: Floats
    image_directions: Floats
    text_directions: Floats

    @classmethod
    def between(cls, image: Head, text: Head) -> Spectrum:
        """Decompose the inter-modal operator of two heads with the same embedding dim.

        With ``A = X D Y^T`` for each head, ``Psi = Y_i (D_i X_i^T X_t D_t) Y_t^T``: the SVD of
        the small matrix in brackets is the SVD of Psi.

        Raises:
            IsoClipError: the heads map into spaces of different dim, or share no direction.
        """
        if image.dim != text.dim:
            raise IsoClipError(
                f"the image head maps to {image.dim} dimensions and the text head to {text.dim}; "
                "take both from the same checkpoint"
            )
        image_left, image_scale, _ = image.decomposition
        text_left, text_scale, _ = text.decomposition
        core = image_scale[:, None] * (image_left.T @ text_left) * text_scale
        left, values, right = np.linalg.svd(core, full_matrices=False)
        smallest = float(image_scale[0] * text_scale[0] * max(core.shape) * np.finfo(float).eps)
        rank = int(np.count_nonzero(values > smallest))
        if rank == 0:
            raise IsoClipError(
                "the image and the text head share no direction; take both from the same checkpoint"
            )
        return cls(image, text, values[:rank], left[:, :rank], right[:rank].T)

    @property
    def rank(self) -> int:
        """How many directions Psi has; a band counts from here, not from the embedding dim."""
        return int(self.values.size)

    def rewrite(self, band: Band) -> tuple[EmbeddingMap, EmbeddingMap]:
        """The maps on plain CLIP embeddings for image-to-image and for text-to-text similarity.

        Raises:
            BandError: the band keeps nothing of this rank, or is centred: a spectrum has no centre.
        """
        if band.centred:
            raise BandError(
                f"band {band} was asked for without a centre to compare from; in Python the verbs "
                "on a dataset take the one that fit_centre(dataset) stored, files and the command "
                f"line have none: use {replace(band, centred=False)}"
            )
        kept = band.of(self.rank)
        return (
            EmbeddingMap.of_directions(self.image, self.image_directions[:, kept], band),
            EmbeddingMap.of_directions(self.text, self.text_directions[:, kept], band),
        )

    def bottom_by_line(self) -> int:
        """How many directions at the bottom fall away from the flat middle of the spectrum.

        A line is fitted to the middle half of ``values / values[0]``; the bottom is the longest
        tail that stays under 0.95 of it. The top cannot be read off a spectrum: it depends on
        the task.
        """
        scaled = self.values / self.values[0]
        middle = slice(self.rank // 4, self.rank - self.rank // 4)
        position = np.arange(self.rank)
        if position[middle].size < 2:
            return 0
        slope, start = np.polyfit(position[middle], scaled[middle], 1)
        under = scaled < _CUT_BELOW_LINE * (start + slope * position)
        above = np.flatnonzero(~under)
        return int(self.rank - 1 - above[-1]) if above.size else 0
