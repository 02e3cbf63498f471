"""Samples that are asked about and samples that are found: the two sides of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_isoclip.dataset.comparisons import read_labels
from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.spaces import Space
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.evaluation.embedded_tasks import first_of_content
from fiftyone_isoclip.evaluation.evaluate import ALL_QUERIES, Task
from fiftyone_isoclip.index.agreement import pick_queries
from fiftyone_isoclip.index.vectors import Rows


@dataclass(frozen=True, eq=False)
class Sides:
    """Which rows of a space are asked about and which are found; both are labelled.

    ``labels`` are positions in ``names``, and -1 where a sample has none; of the ``n_samples`` in
    all, ``n_unlabelled`` have none. ``contents`` are the first labelled row whose file holds the
    same bytes; other such rows are on neither side, ``n_repeated`` in all.
    """

    plain: Space
    names: tuple[str, ...]
    labels: Rows
    query_rows: Rows
    gallery_rows: Rows
    contents: Rows
    n_samples: int
    n_unlabelled: int

    @property
    def n_repeated(self) -> int:
        """The labelled samples whose file holds the bytes of an earlier one."""
        return int(np.count_nonzero(self.contents != np.arange(len(self.contents))))

    @property
    def n_compared(self) -> int:
        """The samples on either side."""
        return len(np.union1d(self.query_rows, self.gallery_rows))

    @property
    def query_ids(self) -> list[str]:
        """The samples that are asked about."""
        return [self.plain.stored.ids[row] for row in self.query_rows]

    def task(self, name: str, samples: Any) -> Task:
        """The same with the plain embeddings and the paths of the samples."""
        queries, gallery = self.query_rows, self.gallery_rows
        ids, vectors = self.plain.stored.ids, self.plain.stored.vectors
        path_of = dict(zip(*samples.values(["id", "filepath"]), strict=True))
        place = np.full(len(ids), -1)
        place[self.contents[gallery]] = np.arange(len(gallery))
        return Task(
            name=name,
            queries=vectors[queries],
            query_labels=self.labels[queries],
            gallery=vectors[gallery],
            gallery_labels=self.labels[gallery],
            own_rows=place[self.contents[queries]],
            query_names=[path_of[ids[row]] for row in queries],
            gallery_names=[path_of[ids[row]] for row in gallery],
            classes=self.names,
            n_repeated=self.n_repeated,
        )


def split_sides(samples: Any, plain: Space, label_field: str, queries: int | str | None) -> Sides:
    """Choose the queries among the labelled samples: by a tag or a saved view, by number, or all.

    Those of a tag or view are not found themselves; with others, each is found by all but itself.

    Raises:
        DatasetError: there are no two labelled samples with embeddings, no such labels, tag or
            view, or one side is empty.
        VectorError: less than one query was asked for.
    """
    labels = read_labels(samples, label_field)
    known = [labels.get(id_) for id_ in plain.stored.ids]
    names = tuple(sorted({label for label in known if label is not None}))
    number = {name: place for place, name in enumerate(names)}
    numbers = np.array([-1 if label is None else number[label] for label in known], np.int64)
    labelled = np.flatnonzero(numbers >= 0)
    if len(labelled) < 2:
        raise DatasetError(
            f"two images with embeddings and labels are needed to measure retrieval, found "
            f"{len(labelled)} of {len(labels)}; embed() and label more images first"
        )
    contents = _contents(samples, plain, labelled)
    if isinstance(queries, str):
        asked, found = _apart(samples, plain, labelled, queries)
        sides = _once(asked, contents), _once(found, contents)
    else:
        found = _once(labelled, contents)
        sides = found[pick_queries(len(found), queries, all_up_to=ALL_QUERIES)], found
    n_unlabelled = sum(label is None for label in labels.values())
    # Beware: len() of a dataset is an estimate, and wrong after the database was killed.
    return Sides(plain, names, numbers, *sides, contents, len(labels), n_unlabelled)


def _contents(samples: Any, plain: Space, labelled: Rows) -> Rows:
    """For each row the first labelled one whose file holds the same bytes, or itself."""
    path_of = dict(zip(*samples.values(["id", "filepath"]), strict=True))
    contents = np.arange(len(plain.stored.ids))
    contents[labelled] = labelled[
        first_of_content([path_of[plain.stored.ids[row]] for row in labelled])
    ]
    return contents


def _once(rows: Rows, contents: Rows) -> Rows:
    """The rows without those that have the content of an earlier one."""
    _, first = np.unique(contents[rows], return_index=True)
    return rows[np.sort(first)]


def _apart(samples: Any, plain: Space, labelled: Rows, name: str) -> tuple[Rows, Rows]:
    named = _named_samples(samples, name)
    asked = np.array([plain.stored.ids[row] in named for row in labelled])
    if asked.all() or not asked.any():
        raise DatasetError(
            f"queries={name!r} names {np.count_nonzero(asked)} of {len(labelled)} labelled images "
            "with embeddings; both some to ask about and some to be found are needed"
        )
    return labelled[asked], labelled[~asked]


def _named_samples(samples: Any, name: str) -> set[str]:
    """The ids of the samples with a tag, or of a saved view."""
    dataset, tags = dataset_of(samples), samples.count_sample_tags()
    if name in tags:
        return set(samples.match_tags(name).values("id"))
    if dataset.has_saved_view(name):
        return set(dataset.load_saved_view(name).values("id"))
    raise DatasetError(
        f"queries={name!r} is neither a tag of these samples ({', '.join(tags) or 'none'}) nor a "
        f"saved view of {dataset.name!r} ({', '.join(dataset.list_saved_views()) or 'none'})"
    )
