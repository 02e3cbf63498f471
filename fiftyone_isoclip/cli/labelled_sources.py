"""What `isoclip evaluate` and `isoclip tune` are to measure, read from what it was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fiftyone_isoclip.cli.screen import note
from fiftyone_isoclip.cli.sources import DATASET_PREFIX, load_dataset

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.labelled_files import Copies, Labelled

GROUPS_NAME = "groups.csv"


@dataclass(frozen=True, slots=True)
class Source:
    """Labelled images, with or without queries apart from them; or copies; or texts."""

    name: str
    gallery: Labelled | None = None
    queries: Labelled | None = None
    copies: Copies | None = None
    texts: Labelled | None = None

    @property
    def n_files(self) -> int:
        """How many images there are to embed."""
        sides = (self.gallery, self.queries, self.copies)
        return sum(len(side.names) for side in sides if side is not None)


def read_source(
    gallery: str | None,
    queries: str | None,
    split: Path | None,
    groups: Path | None,
    texts: Path | None,
    labels: str | None,
) -> Source:
    """Read labels and copies from folders, tables or a dataset; no image is opened.

    Raises:
        typer.BadParameter: what was given does not go together.
        IsoClipError: something is not there, or not as it should be.
    """
    _check(gallery, queries, split, groups, texts, labels)
    from fiftyone_isoclip.evaluation import labelled_files as read

    if texts is not None:
        return Source(texts.name, texts=read.read_texts(texts))
    assert gallery is not None
    name = Path(gallery).name or gallery
    if split is not None:
        asked, searched, others = read.read_splits(split, gallery)
        for kind, n in others.items():
            note(f"left out {n} files of split {kind!r}")
        return Source(name, searched, asked)
    table = Path(gallery, GROUPS_NAME)
    if groups is not None or (queries is None and labels is None and table.is_file()):
        return Source(name, copies=read.read_copies(groups or table, gallery))
    searched = read.read_folder(gallery) if labels is None else read_dataset(gallery, labels)
    return Source(name, searched, None if queries is None else read.read_folder(queries))


def _check(
    gallery: str | None,
    queries: str | None,
    split: Path | None,
    groups: Path | None,
    texts: Path | None,
    labels: str | None,
) -> None:
    if (gallery is None) == (texts is None):
        raise typer.BadParameter("give GALLERY, or --texts FILE without one")
    if texts is not None and any((queries, split, groups, labels)):
        raise typer.BadParameter("--texts FILE goes with none of the options for images")
    if sum(part is not None for part in (queries, split, groups)) > 1:
        raise typer.BadParameter("give one of --queries DIR, --split FILE and --groups FILE")
    of_dataset = gallery is not None and gallery.startswith(DATASET_PREFIX)
    if of_dataset != (labels is not None):
        raise typer.BadParameter("--labels FIELD goes with dataset:NAME, and that with --labels")
    if of_dataset and (split or groups):
        raise typer.BadParameter("--split and --groups are tables for a folder, not for a dataset")


def read_dataset(path: str, field: str) -> Labelled:
    """The images of a dataset that have a label; how many have none is told.

    Raises:
        DatasetError: there is no such dataset or field, or it is of another kind.
    """
    from fiftyone_isoclip.dataset.comparisons import read_labels
    from fiftyone_isoclip.evaluation.labelled_files import Labelled

    dataset = load_dataset(path)
    label_of = read_labels(dataset, field)
    ids, paths = dataset.values(["id", "filepath"])
    pairs = [(file, label_of[id_]) for id_, file in zip(ids, paths, strict=True)]
    labelled = [(file, label) for file, label in pairs if label is not None]
    if left := len(pairs) - len(labelled):
        note(f"left out {left} of {len(pairs)} samples without a label in {field!r}")
    return Labelled(tuple(file for file, _ in labelled), tuple(label for _, label in labelled))
