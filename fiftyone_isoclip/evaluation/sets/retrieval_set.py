"""What a reader gives: queries, a gallery, and which of it is relevant to which query."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.metrics.revisited import Judged
from fiftyone_isoclip.index.vectors import Rows


class AbsentSetError(IsoClipError):
    """A set of which a file or folder is not there; the message says which, and who has it."""


class DamagedSetError(IsoClipError):
    """A set that is there, but not as it is published."""


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalSet:
    """Images to search with and images to search in.

    Shapes: ``query_labels`` (n,), ``gallery_labels`` (m,), positions in ``classes``; what has the
    query's label is relevant. ``own_rows`` (n,) is the row of the gallery that is the query itself
    and is left out of its results, -1 for none. ``train_rows`` (t,) are the rows of the gallery
    from which a class's mean is made and ``test_rows`` (s,) the queries that are classified by it;
    both are empty where there is nothing to classify. ``judged`` is of ROxford and RParis: what is
    relevant to each of the n queries; their labels are all -1.
    """

    name: str
    query_paths: tuple[str, ...]
    query_labels: Rows
    gallery_paths: tuple[str, ...]
    gallery_labels: Rows
    own_rows: Rows
    classes: tuple[str, ...]
    train_rows: Rows
    test_rows: Rows
    judged: tuple[Judged, ...] = ()

    @property
    def is_apart(self) -> bool:
        """Whether no query is in the gallery."""
        return bool((self.own_rows < 0).all())

    def only(self, readable: Collection[str]) -> RetrievalSet:
        """The same set without the images that are not among some paths."""
        queries = np.flatnonzero([path in readable for path in self.query_paths])
        gallery = np.flatnonzero([path in readable for path in self.gallery_paths])
        query_at = _places(queries, len(self.query_paths))
        gallery_at = _places(gallery, len(self.gallery_paths))
        judged = [self.judged[row] for row in queries] if self.judged else []
        return RetrievalSet(
            self.name,
            tuple(self.query_paths[row] for row in queries),
            self.query_labels[queries],
            tuple(self.gallery_paths[row] for row in gallery),
            self.gallery_labels[gallery],
            gallery_at[self.own_rows[queries]],
            self.classes,
            _there(gallery_at[self.train_rows]),
            _there(query_at[self.test_rows]),
            tuple(
                Judged(*(_there(gallery_at[rows]) for rows in (each.easy, each.hard, each.junk)))
                for each in judged
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class TextSet:
    """Captions to search with and captions to search in.

    Shapes: ``query_labels`` (n,), ``gallery_labels`` (m,): captions of the same image are relevant
    to one another. No query is in the gallery.
    """

    name: str
    query_texts: tuple[str, ...]
    query_labels: Rows
    gallery_texts: tuple[str, ...]
    gallery_labels: Rows

    @property
    def own_rows(self) -> Rows:
        """No query has a row of its own: (n,) of -1."""
        return no_own_rows(len(self.query_texts))

    @property
    def is_apart(self) -> bool:
        """Whether no query is in the gallery."""
        return True


def _places(kept: Rows, n: int) -> Rows:
    """Where each of n rows is among those that are kept, (n + 1,); -1 for none, and for row -1."""
    places = np.full(n + 1, -1, np.int64)
    places[kept] = np.arange(len(kept))
    return places


def _there(rows: Rows) -> Rows:
    return rows[rows >= 0]


def no_own_rows(n: int) -> Rows:
    """Own rows of queries that are not in the gallery: (n,) of -1."""
    return np.full(n, -1, np.int64)


def first_there(root: Path, places: Sequence[str], what: str, source: str) -> Path:
    """The first of some places under a folder that exists.

    Raises:
        AbsentSetError: none does; the message says what is missing and where to get it.
    """
    for place in places:
        if (root / place).exists():
            return root / place
    raise AbsentSetError(
        f"{root} holds no {what} (looked for {', '.join(dict.fromkeys(places))} there); {source}"
    )


def image_paths(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The images of some names in a folder.

    Raises:
        DamagedSetError: a name leads out of the folder, or names no file.
    """
    names = list(names)
    outside = [name for name in names if not _stays_inside(name)]
    if outside:
        raise DamagedSetError(
            f"{outside[0]!r} leads out of {folder}; fetch the file again that names the images"
        )
    paths = [folder / name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DamagedSetError(
            f"{len(missing)} of {len(paths)} images are missing, for one {missing[0]}; "
            "unpack the images again"
        )
    return tuple(map(str, paths))


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts
