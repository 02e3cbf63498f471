"""Which images, or texts, belong together: read from folders and from tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.listing import list_files, reason_of

QUERY_SPLITS, GALLERY_SPLITS = ("query", "test"), ("gallery", "train")
NO_QUERIES = ("original", "distractor")
"""What a table of copies calls a picture that nothing was done to."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Paths of images, or texts, with the label of each."""

    names: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Copies:
    """Paths of pictures, what each is a copy of ("" for nothing), and what was done to it."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    attacks: tuple[str, ...]


def read_folder(folder: str | Path, instead: str = "give a table with --split") -> Labelled:
    """The images in the sub-folders of a folder: the sub-folder's name is the label.

    ``instead`` says what else can be done where they lie otherwise.

    Raises:
        IsoClipError: it is no folder, or images lie elsewhere than in its sub-folders.
    """
    root = Path(folder)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise IsoClipError(
            f"{folder} was to be a folder whose sub-folders are the labels, and there is {found}; "
            f"give such a folder, or {instead}"
        )
    paths = list_files(root).paths
    if not paths:
        raise IsoClipError(f"{folder} holds no images; give a folder with one sub-folder a label")
    places = [Path(path).relative_to(root).parts for path in paths]
    for path, parts in zip(paths, places, strict=True):
        if len(parts) != 2:
            where = "in no sub-folder" if len(parts) == 1 else "in a sub-folder of a sub-folder"
            raise IsoClipError(
                f"the sub-folders of {folder} were to be the labels, but {path} lies {where}; give "
                f"the folder that holds one sub-folder for each label, or {instead}"
            )
    return Labelled(paths, tuple(parts[0] for parts in places))


def read_splits(table: str | Path, folder: str | Path) -> tuple[Labelled, Labelled, dict[str, int]]:
    """Queries, gallery, and how many files of which other split there are, from a CSV table.

    Its columns are file (relative to the folder), label and split: query or test, gallery or train.

    Raises:
        IsoClipError: the table cannot be read, or has no queries or no gallery.
    """
    rows = _read_table(table, ("file", "label", "split"))
    sides = [_labelled(rows, kinds, Path(folder)) for kinds in (QUERY_SPLITS, GALLERY_SPLITS)]
    others: dict[str, int] = {}
    for row in rows:
        if row["split"] not in (*QUERY_SPLITS, *GALLERY_SPLITS):
            others[row["split"]] = others.get(row["split"], 0) + 1
    for side, kinds in zip(sides, (QUERY_SPLITS, GALLERY_SPLITS), strict=True):
        if not len(side):
            raise IsoClipError(
                f"{table} has no row whose split is {' or '.join(kinds)}, only "
                f"{', '.join(sorted({row['split'] for row in rows}))}; two sides are to be compared"
            )
    return sides[0], sides[1], others


def read_copies(table: str | Path, folder: str | Path) -> Copies:
    """Pictures and their copies from a CSV table: file (relative to the folder), group, attack.

    Raises:
        IsoClipError: the table cannot be read, or names no edited picture or no original.
    """
    rows = _read_table(table, ("file", "group", "attack"))
    edited = sum(row["attack"] not in NO_QUERIES for row in rows)
    if edited in (0, len(rows)):
        found = "no edited picture" if not edited else f"no {' or '.join(NO_QUERIES)}"
        raise IsoClipError(
            f"{table} names {found} in its column attack; edited pictures are searched for among "
            "originals and distractors"
        )
    return Copies(
        tuple(str(Path(folder) / row["file"]) for row in rows),
        tuple(row["group"] for row in rows),
        tuple(row["attack"] for row in rows),
    )


def read_texts(table: str | Path) -> Labelled:
    """Texts from a CSV table with the columns text and label: one label is one thing described.

    Raises:
        IsoClipError: the table cannot be read.
    """
    rows = _read_table(table, ("text", "label"))
    return Labelled(tuple(row["text"] for row in rows), tuple(row["label"] for row in rows))


def _labelled(rows: Sequence[Mapping[str, str]], kinds: Sequence[str], folder: Path) -> Labelled:
    chosen = [row for row in rows if row["split"] in kinds]
    return Labelled(
        tuple(str(folder / row["file"]) for row in chosen), tuple(row["label"] for row in chosen)
    )


def _read_table(table: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV table by their column names, without spaces about the cells.

    Raises:
        IsoClipError: it cannot be read, lacks a column or a cell, or has no row.
    """
    try:
        with Path(table).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IsoClipError(f"{table} cannot be read as a CSV table: {reason_of(error)}") from error
    missing = [name for name in columns if name not in found]
    if missing:
        raise IsoClipError(
            f"{table} has no column {' and no column '.join(missing)}; its first line must name "
            f"{','.join(columns)}, and names {','.join(found) or 'nothing'}"
        )
    for number, row in enumerate(rows, start=2):
        empty = [name for name in columns if not (row[name] or "").strip() and name != "group"]
        if empty:
            raise IsoClipError(
                f"row {number} of {table} has no {' and no '.join(empty)}; give one, or leave the "
                "row out"
            )
    if not rows:
        raise IsoClipError(f"{table} has no row below its first line")
    return [{name: (row[name] or "").strip() for name in columns} for row in rows]
