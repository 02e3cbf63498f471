"""Groups of duplicate samples, as they are reported and as they lie in the fields of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.runs import Column, SavedRun, load_run
from fiftyone_isoclip.index.false_matches import one_in

METHOD = "duplicates"
DEFAULT_KEY = "duplicates"
EXACT_KEY = "exact_duplicates"

APART = "not a duplicate"
"""The role of samples of a group that a person said are no duplicates of each other."""

Kind = Literal["exact", "near", "alias"]


@dataclass(frozen=True, slots=True)
class SampleCopy:
    """A sample that its group's keeper can stand for.

    ``kind`` is "exact" if its file has the keeper's bytes, "near" if it looks like it, and
    "alias" if its file *is* one that stays or was counted before: the same path, a symlink or a
    hard link. An alias is never a copy that could be deleted.
    """

    id: str
    path: str
    kind: Kind
    similarity: float


@dataclass(frozen=True, slots=True)
class SampleGroup:
    """A sample to keep, why, and the others; ``least_similarity`` is between any two of them."""

    keeper: str
    path: str
    reason: str
    least_similarity: float
    copies: tuple[SampleCopy, ...]


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The groups that a search for duplicates found; nothing was deleted.

    ``skipped`` maps the samples that could not be compared to the reason; after loading a saved
    run it is empty and ``n_skipped`` alone is known. ``recall`` is the share of all pairs that was
    found: 1 unless a smaller one was asked for, then measured, or None if it could not be.
    ``false_matches`` is, if the similarity was chosen by it, at most the share of all pairs of
    different files that are as similar; near-copies are among these.
    """

    dataset: fo.Dataset = field(repr=False)
    key: str
    groups: tuple[SampleGroup, ...]
    similarity: float
    band: str
    n_compared: int
    n_skipped: int
    recall: float | None = 1.0
    false_matches: float | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def duplicates(self) -> list[SampleCopy]:
        """The copies, exact and near, that could go: aliases are not among them."""
        return [copy for group in self.groups for copy in group.copies if copy.kind != "alias"]

    @property
    def aliases(self) -> list[SampleCopy]:
        """The samples whose file is also another sample's."""
        return [copy for group in self.groups for copy in group.copies if copy.kind == "alias"]

    @property
    def n_duplicates(self) -> int:
        """How many samples would go."""
        return len(self.duplicates)

    @property
    def n_exact(self) -> int:
        """How many of them are byte-identical to their keeper."""
        return sum(copy.kind == "exact" for copy in self.duplicates)

    @property
    def bytes_freed(self) -> int:
        """Bytes that deleting the duplicates' files would free: a hard-linked file frees none."""
        return sum(own_bytes(copy.path) for copy in self.duplicates)

    @property
    def view(self) -> Any:
        """The groups, one after the other as dynamic groups in the App, each keeper first."""
        return groups_view(self.dataset, self.key)

    @property
    def duplicates_view(self) -> Any:
        """The samples that would go."""
        return self.dataset.select([copy.id for copy in self.duplicates])

    def __str__(self) -> str:
        n_near = self.n_duplicates - self.n_exact
        chosen = ""
        if self.false_matches is not None:
            chosen = f", which {one_in(self.false_matches)} pairs of different files reach"
        return (
            f"{self.n_duplicates} of {self.n_compared} samples are duplicates "
            f"({self.n_exact} exact, {n_near} near) in {len(self.groups)} groups at similarity "
            f"{self.similarity:g}{chosen}, band {self.band}; {len(self.aliases)} share a file "
            f"with another sample, {self.n_skipped} could not be compared"
        )


def field_names(key: str) -> dict[str, str]:
    """The fields of a run: what each holds -> its name."""
    parts = ("group", "rank", "role", "kind", "similarity", "least_similarity", "bytes", "reason")
    return {part: f"{key}_{part}" for part in parts}


def groups_view(dataset: fo.Dataset, key: str) -> Any:
    """The samples of all groups of a run that are to be judged, grouped, each keeper first."""
    names = field_names(key)
    grouped = dataset.match(F(names["group"]).exists() & (F(names["role"]) != APART))
    return grouped.group_by(names["group"], order_by=names["rank"])


def group_columns(key: str, groups: Iterable[SampleGroup]) -> dict[str, Column]:
    """The fields that hold these groups; groups are numbered from 1, ranks from 0 (the keeper)."""
    kinds = {"group": fo.IntField, "rank": fo.IntField, "bytes": fo.IntField}
    kinds |= {"similarity": fo.FloatField, "least_similarity": fo.FloatField}
    values: dict[str, dict[str, Any]] = {part: {} for part in field_names(key)}
    for number, group in enumerate(groups, 1):
        values["reason"][group.keeper] = group.reason
        members = [(group.keeper, "keeper"), *((c.id, _role(c)) for c in group.copies)]
        for rank, (id_, role) in enumerate(members):
            values["group"][id_] = number
            values["rank"][id_] = rank
            values["role"][id_] = role
            values["least_similarity"][id_] = group.least_similarity
        values["kind"] |= {copy.id: copy.kind for copy in group.copies}
        values["similarity"] |= {copy.id: copy.similarity for copy in group.copies}
        values["bytes"] |= {c.id: own_bytes(c.path) for c in group.copies if c.kind != "alias"}
    names = field_names(key)
    return {
        names[part]: Column(
            kinds.get(part, fo.StringField), values[part], indexed=part in ("group", "role")
        )
        for part in names
    }


def load_duplicates(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> DuplicateReport:
    """The groups of an earlier search, without the samples deleted since.

    A group whose keeper or last copy is gone is left out, and so is one said to be no duplicates.

    Raises:
        DatasetError: there is no such run.
    """
    run = load_run(dataset_of(dataset), key, METHOD)
    names = field_names(key)
    held = dataset.match(F(names["group"]).exists()).sort_by(names["rank"])
    rows = zip(*held.values(["id", "filepath", *names.values()]), strict=True)
    found: dict[int, list[Any]] = {}
    for id_, path, number, _rank, role, kind, similarity, least, _bytes, reason in rows:
        group = found.setdefault(number, [None, []])
        if role == APART:
            continue
        if role == "keeper":
            group[0] = SampleGroup(id_, path, reason, least, ())
        else:
            group[1].append(SampleCopy(id_, path, kind, similarity))
    whole = [found[number] for number in sorted(found) if all(found[number])]
    groups = tuple(replace(group, copies=tuple(copies)) for group, copies in whole)
    return report_of(dataset, run, groups)


def report_of(
    dataset: fo.Dataset,
    run: SavedRun,
    groups: tuple[SampleGroup, ...],
    skipped: Mapping[str, str] | None = None,
) -> DuplicateReport:
    """The report of a run."""
    return DuplicateReport(
        dataset=dataset,
        key=run.key,
        groups=groups,
        similarity=similarity_of(run),
        band=run.band,
        n_compared=int(run.counts["compared"]),
        n_skipped=int(run.counts["skipped"]),
        recall=run.counts.get("recall", 1.0 if run.parameters.get("recall") is None else None),
        false_matches=run.details.get("false_matches", {}).get("high"),
        skipped=skipped or {},
    )


def similarity_of(run: SavedRun) -> float:
    """The similarity of a run's groups: the one asked for, or higher if few were to go."""
    return float(run.details.get("similarity", run.parameters["similarity"]))


def _role(copy: SampleCopy) -> str:
    return "alias" if copy.kind == "alias" else "duplicate"


def own_bytes(path: str) -> int:
    """Bytes that deleting a file would free: none for a link, or while another hard link stays."""
    try:
        state = Path(path).lstat()
    except (OSError, ValueError):
        return 0
    return state.st_size if S_ISREG(state.st_mode) and state.st_nlink == 1 else 0
