"""How similar pictures stay to themselves when they are edited, by kind of edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import ImageError, VectorError
from fiftyone_isoclip.files.edits import EDITS, edit_image
from fiftyone_isoclip.index.binomial import Share, share_of
from fiftyone_isoclip.index.vectors import cosines

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: a form tells defaults without

DEFAULT_PICTURES = 100
"""Pictures that are edited, unless the user says: a share is then known to about a tenth."""

LONGEST_SIDE = 640
"""Larger pictures are reduced to it before they are edited, as the demonstration's copies are."""

ToSpace = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""From plain embeddings (n, r) to the rows (n, k) that are compared."""

_SEED = 0


@dataclass(frozen=True, eq=False, slots=True)
class EditRecall:
    """The similarities of m pictures to what edits make of them.

    Attributes:
        rows: (m,) which of the files they are.
        similarities: kind of edit -> (m,) cosines.
        failed: files that were drawn and could not be edited, and why.
    """

    rows: npt.NDArray[np.int64]
    similarities: Mapping[str, npt.NDArray[np.float32]]
    failed: Mapping[str, str]

    def by_kind(self, similarity: float) -> dict[str, Share]:
        """The share of pictures whose edited copy is at least this similar; none of no pictures."""
        if not len(self.rows):
            return {}
        least, m = np.float32(similarity), len(self.rows)
        return {
            kind: share_of(int((found >= least).sum()), m)
            for kind, found in self.similarities.items()
        }

    def by_picture(self, similarity: float) -> npt.NDArray[np.float64]:
        """The share of its edited copies that is at least this similar, by picture: (m,)."""
        found = np.array([*self.similarities.values()]).reshape(len(self.similarities), -1)
        return np.asarray((found >= np.float32(similarity)).mean(axis=0))


def measure_edits(
    paths: Sequence[str],
    clip: Clip,
    to_space: ToSpace,
    *,
    pictures: int = DEFAULT_PICTURES,
    kinds: Sequence[str] = tuple(EDITS),
    progress: Callable[[int, int], object] | None = None,
) -> EditRecall:
    """Edit pictures in memory in every way, and compare each with what it was, under a band.

    Which pictures is decided at random, always the same way. One that cannot be read fails alone.

    Args:
        paths: files of different content.
        clip: embeds the pictures.
        to_space: from plain embeddings to the vectors of the band under which they are compared.
        pictures: how many to draw; of fewer, all.
        kinds: names of `EDITS`.
        progress: called with (pictures done, in all).
    """
    drawn = np.random.default_rng(_SEED).permutation(len(paths))[:pictures].tolist()
    rows, found, failed = [], [np.empty((0, len(kinds)), np.float32)], {}
    for done, row in enumerate(drawn, 1):
        try:
            found.append(_compare(paths[row], row, clip, to_space, kinds))
            rows.append(row)
        except (ImageError, VectorError) as error:
            failed[paths[row]] = str(error)
        if progress is not None:
            progress(done, len(drawn))
    table = np.concatenate(found)
    columns = {kind: table[:, place] for place, kind in enumerate(kinds)}
    return EditRecall(np.array(rows, np.int64), columns, failed)


def _compare(
    path: str, seed: int, clip: Clip, to_space: ToSpace, kinds: Sequence[str]
) -> npt.NDArray[np.float32]:
    """The similarities of one picture to its edited copies: (1, kinds)."""
    from fiftyone_isoclip.encoder import embed_pictures, read_image

    picture = read_image(path)
    small = picture.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    edited = [edit_image(small, kind, seed) for kind in kinds]
    vectors = to_space(embed_pictures(clip, [picture, *edited]))
    others = np.arange(1, len(vectors))
    return cosines(vectors, np.zeros_like(others), vectors, others)[None]
