"""Going through the groups of a search one by one: what a person decides, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.grouping import BY_HAND
from fiftyone_isoclip.dataset.groups import APART, METHOD, field_names, own_bytes
from fiftyone_isoclip.dataset.locks import A_MOMENT, one_writer
from fiftyone_isoclip.dataset.runs import SavedRun, load_run
from fiftyone_isoclip.dataset.spaces import open_space
from fiftyone_isoclip.dataset.verdicts import forget_verdicts, prefer_keeper, say_not_duplicates
from fiftyone_isoclip.dataset.writing import write_values
from fiftyone_isoclip.encoder.images import header
from fiftyone_isoclip.errors import DatasetError, ImageError
from fiftyone_isoclip.files.copies import find_exact_copies
from fiftyone_isoclip.files.keepers import readable_bytes
from fiftyone_isoclip.files.listing import file_identity
from fiftyone_isoclip.index.vectors import cosines

Order = Literal["size", "loosest", "tightest"]
"""Largest groups first; or by the least similarity inside, from the lowest or the highest."""

MOST_SHOWN = 24
"""How many samples of a group are told; a group of identical files can have thousands."""

_ORDERS = 8


@dataclass(frozen=True, slots=True)
class Member:
    """A sample of a group, as a person judges it. ``similarity`` is that to the keeper."""

    id: str
    path: str
    role: str
    kind: str | None
    similarity: float | None
    reason: str | None
    tags: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    n_bytes: int | None = None
    written: datetime | None = None

    @property
    def weight(self) -> str:
        """The bytes of its file, for people; empty if it is not there."""
        return "" if self.n_bytes is None else readable_bytes(self.n_bytes)


@dataclass(frozen=True, slots=True)
class GroupToReview:
    """The first samples of a group, the keeper first, of ``size`` in all."""

    number: int
    size: int
    least_similarity: float
    members: tuple[Member, ...]

    @property
    def is_apart(self) -> bool:
        """Whether a person said that these are no duplicates."""
        return all(member.role == APART for member in self.members)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is judged: groups and samples that could go, and what that would free."""

    groups: int
    duplicates: int
    apart: int
    n_bytes: int

    def __str__(self) -> str:
        """For people, as Markdown."""
        told = f"**{self.groups} groups**, {self.duplicates} images could go"
        told += f" ({readable_bytes(self.n_bytes)} on disk)" if self.duplicates else ""
        return told + (f", {self.apart} said to be no duplicates" if self.apart else "")


def count_groups(dataset: fo.Dataset, key: str) -> Standing:
    """Count what is in the fields of a run now; the database does it."""
    names = field_names(key)
    roles = dataset.count_values(names["role"])
    going = dataset.match(F(names["role"]) == "duplicate")
    return Standing(
        groups=roles.get("keeper", 0),
        duplicates=roles.get("duplicate", 0),
        apart=len(dataset.match(F(names["role"]) == APART).distinct(names["group"])),
        n_bytes=int(going.sum(names["bytes"]) or 0),
    )


def list_groups(dataset: fo.Dataset, run: SavedRun, order: Order = "size") -> tuple[int, ...]:
    """The numbers of the groups of a run, in an order to review them in."""
    held = dataset.count(field_names(run.key)["group"])
    return _ordered(str(dataset._doc.id), dataset.name, run.key, f"{run.time} {held}", order)


@lru_cache(maxsize=_ORDERS)
def _ordered(_id: str, name: str, key: str, _state: str, order: Order) -> tuple[int, ...]:
    """Read once for each run: reviewing moves no sample from group to group.

    A keeper whose duplicates were removed is left out: there is nothing to judge.
    """
    names = field_names(key)
    dataset = fo.load_dataset(name)
    counted = dataset.match(F(names["group"]).exists())
    counts = counted.count_values(names["group"])
    sizes = {number: size for number, size in counts.items() if size > 1}
    if order == "size":
        return tuple(sorted(sizes, key=lambda number: (-sizes[number], number)))
    first = counted.match(F(names["rank"]) == 0)
    numbers, least = first.values([names["group"], names["least_similarity"]])
    sign = 1 if order == "loosest" else -1
    ranked = sorted((sign * s, n) for s, n in zip(least, numbers, strict=True))
    return tuple(number for _, number in ranked if number in sizes)


def read_group(dataset: fo.Dataset, key: str, number: int) -> GroupToReview | None:
    """One group of a run as it is now, or None if its samples are gone."""
    names = field_names(key)
    held = dataset.match(F(names["group"]) == number)
    size = held.count()
    if not size:
        return None
    # The keeper may have been changed by hand: it comes first whatever its rank is.
    first = held.match(F(names["role"]) == "keeper").values("id")
    rest = held.match(F(names["role"]) != "keeper").sort_by(names["rank"]).limit(MOST_SHOWN)
    shown = dataset.select([*first, *rest.values("id")][:MOST_SHOWN], ordered=True)
    labels = _label_fields(dataset)
    members = tuple(_member(sample, names, labels) for sample in shown)
    least = held.bounds(names["least_similarity"])[0]
    return GroupToReview(number, size, float(least if least is not None else 1.0), members)


@one_writer("key", patience=A_MOMENT)
def keep_this(dataset: fo.Dataset, key: str, id_: str) -> None:
    """Make a sample the keeper of its group, here and in later searches.

    Raises:
        DatasetError: it is in no group of this run.
    """
    run = load_run(dataset_of(dataset), key, METHOD)
    names, number = field_names(key), _group_of(dataset, key, id_)
    held = dataset.match(F(names["group"]) == number).sort_by(names["rank"])
    columns = ["id", "filepath", names["kind"], names["rank"], names["role"]]
    rows = {row[0]: row[1:] for row in zip(*held.values(columns), strict=True)}
    path, _, rank, _ = rows.pop(id_)
    # Who was said to be apart stays so, unless all of them were.
    rows = {other: row for other, row in rows.items() if row[3] != APART} or rows
    mine, same = file_identity(path), _copies_of(path, {o: row[0] for o, row in rows.items()})
    roles: dict[str, str] = {id_: "keeper"}
    kinds: dict[str, str | None] = {id_: None}
    freed: dict[str, int | None] = {id_: None}
    for other, (file, kind, *_) in rows.items():
        # A second sample of the kept file is no copy that could go.
        alias = kind == "alias" or file_identity(file) == mine
        roles[other] = "alias" if alias else "duplicate"
        kinds[other] = "alias" if alias else "exact" if other in same else "near"
        freed[other] = None if alias else own_bytes(file)
    ranks = {other: rank for other, row in rows.items() if row[2] == 0} | {id_: 0}
    if run.parameters.get("exact"):
        similar: dict[str, Any] = dict.fromkeys(rows, 1.0)
    else:
        similar = _similarities(held, run, id_, list(rows))
    prefer_keeper(dataset, id_, rows)
    forget_verdicts(dataset, [id_, *rows])
    for part, values in (
        ("role", roles),
        ("kind", kinds),
        ("bytes", freed),
        ("rank", ranks),
        ("similarity", {**similar, id_: None}),
        ("reason", {**dict.fromkeys(rows), id_: BY_HAND}),
    ):
        write_values(dataset, names[part], values)


@one_writer("key", patience=A_MOMENT)
def keep_all(dataset: fo.Dataset, key: str, *numbers: int) -> None:
    """Say that the samples of groups are no duplicates, here and in later searches.

    Raises:
        DatasetError: there is no such run, or no such group of it.
    """
    load_run(dataset_of(dataset), key, METHOD)
    names = field_names(key)
    held = dataset.match(F(names["group"]).is_in(list(numbers)))
    groups: dict[int, list[str]] = {}
    for id_, number in zip(*held.values(["id", names["group"]]), strict=True):
        groups.setdefault(number, []).append(id_)
    for number in numbers:
        _check_there(key, number, groups.get(number, []))
    say_not_duplicates(dataset, *groups.values())
    ids = [id_ for group in groups.values() for id_ in group]
    write_values(dataset, names["role"], dict.fromkeys(ids, APART))


@one_writer("key", patience=A_MOMENT)
def keep_apart(dataset: fo.Dataset, key: str, id_: str) -> None:
    """Say that a sample is no duplicate of the others of its group, here and in later searches.

    Raises:
        DatasetError: it is in no group of this run, or is the keeper.
    """
    load_run(dataset_of(dataset), key, METHOD)
    names, number = field_names(key), _group_of(dataset, key, id_)
    held = dataset.match(F(names["group"]) == number)
    roles = dict(zip(*held.values(["id", names["role"]]), strict=True))
    if roles.pop(id_) == "keeper":
        raise DatasetError(f"sample {id_} is the keeper of its group; keep another one first")
    say_not_duplicates(dataset, *([id_, other] for other in roles))
    write_values(dataset, names["role"], {id_: APART})


@one_writer("key", patience=A_MOMENT)
def judge_again(dataset: fo.Dataset, key: str, number: int) -> None:
    """Take back `keep_all`: the best by rank is the keeper again.

    Raises:
        DatasetError: there is no such run, or no such group of it.
    """
    load_run(dataset_of(dataset), key, METHOD)
    names = field_names(key)
    held = dataset.match(F(names["group"]) == number).sort_by(names["rank"])
    ids, kinds = held.values(["id", names["kind"]])
    _check_there(key, number, ids)
    forget_verdicts(dataset, ids)
    roles = ["alias" if kind == "alias" else "duplicate" for kind in kinds]
    write_values(dataset, names["role"], dict(zip(ids, ["keeper", *roles[1:]], strict=True)))


def _group_of(dataset: fo.Dataset, key: str, id_: str) -> int:
    names = field_names(key)
    found = dataset.select(id_).values(names["group"])
    if not found or found[0] is None:
        raise DatasetError(f"sample {id_} is in no group of {key!r}; search again if it should be")
    return int(found[0])


def _check_there(key: str, number: int, ids: Sequence[str]) -> None:
    if not ids:
        raise DatasetError(f"{key!r} has no group {number}, or its samples are gone; search again")


def _copies_of(path: str, others: Mapping[str, str]) -> set[str]:
    """Which of the others, id -> path, hold the bytes of a file."""
    ids = list(others)
    contents = find_exact_copies([path, *others.values()])
    return {ids[row - 1] for rows in contents if 0 in rows for row in rows if row}


def _similarities(held: Any, run: SavedRun, id_: str, others: Sequence[str]) -> dict[str, Any]:
    """The cosine of each other sample to this one, as the search would compute it."""
    space = open_space(held, run.parameters["field"], run.band)
    row_of = space.stored.row_of
    if id_ not in row_of:
        return dict.fromkeys(others)
    rows = {other: row_of[other] for other in others if other in row_of}
    mine, theirs = np.full(len(rows), row_of[id_]), np.array([*rows.values()], np.int64)
    found = cosines(space.vectors, mine, space.vectors, theirs)
    return {**dict.fromkeys(others), **dict(zip(rows, found.tolist(), strict=True))}


def _label_fields(dataset: fo.Dataset) -> list[str]:
    kinds = {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": fo.Label}
    return list(dataset.get_field_schema(**kinds))


def _member(sample: Any, names: Mapping[str, str], labels: Sequence[str]) -> Member:
    size = n_bytes = written = None
    path = Path(sample.filepath)
    try:
        state = path.stat()
        n_bytes, written = state.st_size, datetime.fromtimestamp(state.st_mtime)
        size = _extent(sample.filepath)
    except (OSError, ValueError):
        pass  # a file that is gone is shown without its size
    return Member(
        id=sample.id,
        path=sample.filepath,
        role=sample[names["role"]],
        kind=sample[names["kind"]],
        similarity=sample[names["similarity"]],
        reason=sample[names["reason"]],
        tags=tuple(sample.tags),
        labels={name: told for name in labels if (told := _told(sample[name]))},
        size=size,
        n_bytes=n_bytes,
        written=written,
    )


def _extent(path: str) -> tuple[int, int] | None:
    try:
        with header(path) as image:
            return image.size
    except ImageError:
        return None


def _told(label: Any) -> str:
    """A label for people: its class, or how many of which."""
    if label is None:
        return ""
    inner = getattr(label, "_LABEL_LIST_FIELD", None)
    if inner is None:
        return str(getattr(label, "label", "") or type(label).__name__)
    many = getattr(label, inner) or []
    return f"{len(many)} {inner}" if many else ""
