"""Labelled images and texts, embedded: the tasks on which methods are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.copy_detection import CopyTask
from fiftyone_isoclip.evaluation.evaluate import ALL_QUERIES, Task
from fiftyone_isoclip.evaluation.labelled_files import NO_QUERIES, Copies, Labelled
from fiftyone_isoclip.files.copies import find_exact_copies
from fiftyone_isoclip.files.embeddings import FileEmbeddings, Progress, embed_files
from fiftyone_isoclip.files.listing import file_identity
from fiftyone_isoclip.index.agreement import pick_queries
from fiftyone_isoclip.index.vectors import Rows

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip


def embed_task(
    name: str,
    clip: Clip,
    gallery: Labelled,
    queries: Labelled | None = None,
    progress: Progress | None = None,
    *,
    sample: int | None = None,
) -> tuple[Task, FileEmbeddings]:
    """Embed labelled images; without queries those of the gallery ask for their like.

    ``sample`` is how many of the gallery ask, None all of up to `ALL_QUERIES` and some of more.

    Of files with the same bytes the first asks and is found: a copy would find the other at once,
    and count as another query. Each is left out of its own results, also where a copy of a query
    lies in the gallery. Files that cannot be read are left out, and told in the embeddings.

    Raises:
        IsoClipError: no image can be read on one of the two sides.
    """
    asked = gallery if queries is None else queries
    names = list(dict.fromkeys([*gallery.names, *asked.names]))
    embedded = embed_files(names, clip, progress=progress)
    first = first_of_content(embedded.embedded_paths)
    places, rows = _find_rows(embedded, gallery.names, first)
    asked_places, asked_rows = _find_rows(embedded, asked.names, first)
    _check_sides(asked_rows, rows, embedded)
    if queries is None:
        picked = pick_queries(len(rows), sample, all_up_to=ALL_QUERIES)
        asked_places, asked_rows = [places[row] for row in picked], rows[picked]
    classes = tuple(sorted({*gallery.labels, *asked.labels}))
    number = {label: place for place, label in enumerate(classes)}
    row_in_gallery = {row: place for place, row in enumerate(rows.tolist())}
    task = Task(
        name=name,
        queries=embedded.embeddings[asked_rows],
        query_labels=_numbers(number, asked.labels, asked_places),
        gallery=embedded.embeddings[rows],
        gallery_labels=_numbers(number, gallery.labels, places),
        own_rows=np.array([row_in_gallery.get(row, -1) for row in asked_rows.tolist()], np.int64),
        query_names=[asked.names[place] for place in asked_places],
        gallery_names=[gallery.names[place] for place in places],
        classes=classes,
        n_repeated=int(np.count_nonzero(first != np.arange(len(first)))),
        unreadable=embedded.failed,
    )
    return task, embedded


def first_of_content(paths: Sequence[str]) -> Rows:
    """For each of n files the first one that holds the same bytes: (n,) rows."""
    first = np.arange(len(paths))
    for rows in find_exact_copies(paths):
        first[rows] = rows[0]
    return first


def embed_texts(name: str, clip: Clip, texts: Labelled, *, sample: int | None = None) -> Task:
    """Embed labelled texts that ask for their like among the others; ``sample`` as of images.

    Of equal texts the first alone asks and is found.
    """
    place_of = {text: place for place, text in reversed(list(enumerate(texts.names)))}
    places = sorted(place_of.values())
    names = [texts.names[place] for place in places]
    vectors = clip.text_embeddings(names)
    classes = tuple(sorted(set(texts.labels)))
    number = {label: place for place, label in enumerate(classes)}
    labels = _numbers(number, texts.labels, places)
    asked = pick_queries(len(names), sample, all_up_to=ALL_QUERIES)
    return Task(
        name=name,
        queries=vectors[asked],
        query_labels=labels[asked],
        gallery=vectors,
        gallery_labels=labels,
        own_rows=asked,
        query_names=[names[row] for row in asked],
        gallery_names=names,
        classes=classes,
        n_repeated=len(texts) - len(names),
    )


def embed_copies(
    name: str, clip: Clip, copies: Copies, progress: Progress | None = None
) -> tuple[CopyTask, FileEmbeddings]:
    """Embed pictures and their copies; files that cannot be read are left out, and told.

    Raises:
        IsoClipError: no edited picture can be read, or none of the others.
    """
    embedded = embed_files(copies.names, clip, progress=progress)
    places, rows = _find_rows(embedded, copies.names, np.arange(len(embedded.rows)))
    number = {group: place for place, group in enumerate(dict.fromkeys(copies.groups))}
    # What is a copy of nothing has a number of its own.
    groups = np.array(
        [number[copies.groups[place]] if copies.groups[place] else -1 - place for place in places],
        np.int64,
    )
    names = [copies.names[place] for place in places]
    attacks = [copies.attacks[place] for place in places]
    edited = np.array([attack not in NO_QUERIES for attack in attacks], bool)
    asked = np.flatnonzero(edited)
    # Ties are ranked in gallery order: in that of a table originals come first, and would win all.
    searched = np.random.default_rng(0).permutation(np.flatnonzero(~edited))
    _check_sides(asked, searched, embedded)
    task = CopyTask(
        name=name,
        queries=embedded.embeddings[rows[asked]],
        query_groups=groups[asked],
        attacks=[attacks[row] for row in asked],
        gallery=embedded.embeddings[rows[searched]],
        gallery_groups=groups[searched],
        query_names=[names[row] for row in asked],
        gallery_names=[names[row] for row in searched],
        unreadable=embedded.failed,
    )
    return task, embedded


def _find_rows(
    embedded: FileEmbeddings, names: Sequence[str], first: Rows
) -> tuple[list[int], Rows]:
    """The places in a list of what could be read, each row once, and these rows.

    ``first`` (n,) is the row that stands for each row.
    """
    row_of = {file_identity(path): row for row, path in enumerate(embedded.embedded_paths)}
    found: dict[int, int] = {}
    for place, name in enumerate(names):
        row = row_of.get(file_identity(name))
        if row is not None:
            found.setdefault(int(first[row]), place)
    return list(found.values()), np.array(list(found), np.int64)


def _check_sides(queries: Rows, gallery: Rows, embedded: FileEmbeddings) -> None:
    if not len(queries) or not len(gallery):
        path, reason = next(iter(embedded.failed.items()), ("the folder", "it holds no image"))
        raise IsoClipError(
            f"of {len(embedded.paths)} images {len(embedded.rows)} could be read: "
            f"{len(queries)} to search with and {len(gallery)} to search in; give both ({path}: "
            f"{reason})"
        )


def _numbers(number: Mapping[str, int], labels: Sequence[str], places: Sequence[int]) -> Rows:
    return np.array([number[labels[place]] for place in places], np.int64)
