"""What a similarity index asks of a database of vectors; one adapter a database answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table: ids (n), the samples they belong to (n) and unit vectors (n, d).

    An id is a sample's, or a label's if the index is of patches.
    """

    ids: list[str]
    sample_ids: list[str]
    vectors: Float32s


@dataclass(frozen=True, slots=True)
class Hits:
    """What one query found, the most similar first: ids (k), samples (k), cosines (k)."""

    ids: list[str]
    sample_ids: list[str]
    similarities: Float32s


class VectorTable(Protocol):
    """Unit vectors under ids in a database, searched by cosine.

    Nothing lies in the database before the first `put`, which settles the dim: until then a table
    is empty, and so it is after `drop`. Threads may ask at the same time. An adapter raises the
    errors of its database, named in `Tables.errors`; the index tells them in a sentence.
    """

    name: str

    def count(self) -> int:
        """How many rows there are."""
        ...

    def put(self, ids: Sequence[str], sample_ids: Sequence[str], vectors: Float32s) -> None:
        """Add unit rows (n, d), or set them in the place of those with the same id.

        What was put is found by the next search, also in another process. NaN never gets here.
        """
        ...

    def settle(self) -> None:
        """Make what was put quick to search, once many rows were; any search is right without."""
        ...

    def remove(self, ids: Sequence[str]) -> None:
        """Delete the rows of these ids; those that are not there are no matter."""
        ...

    def read(self, ids: Sequence[str]) -> Rows:
        """The rows of these ids that are there, in the order of `ids`; (0, d) if none is.

        With nothing in the database d is 0. Vectors are as stored: of float16 within 5e-4.
        """
        ...

    def list_ids(self) -> tuple[list[str], list[str]]:
        """The ids and the samples of all rows, in any order."""
        ...

    def nearest(self, vectors: Float32s, k: int, among: Sequence[str] | None) -> list[Hits]:
        """For each unit query (m, d) the k most similar rows, or as many as there are.

        Args:
            vectors: the queries.
            k: how many to find, at least 1 and at most the config's `max_k` if it has one.
            among: only rows of these ids, of which some may not be there, hence none if there are
                no ids; None searches all.
        """
        ...

    def drop(self) -> None:
        """Delete the table with all that the database made for it; no matter if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of an index, and the errors by which their database answers.

    `images` answers queries by image; `texts` holds the plain embeddings that text is compared
    with, None if the index has no such table.
    """

    images: VectorTable
    texts: VectorTable | None
    errors: tuple[type[Exception], ...]

    @property
    def all(self) -> list[VectorTable]:
        """Each of them."""
        return [self.images] if self.texts is None else [self.images, self.texts]
