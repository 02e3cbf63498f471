"""What becomes of duplicates in a dataset: tags, removal with what they knew, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.groups import METHOD, field_names
from fiftyone_isoclip.dataset.locks import hold, one_writer
from fiftyone_isoclip.dataset.merging import (
    DUPLICATE_TAG,
    KEEPER_TAG,
    Conflict,
    check_conflict,
    merge_group,
)
from fiftyone_isoclip.dataset.review import keep_all
from fiftyone_isoclip.dataset.runs import list_runs, load_run
from fiftyone_isoclip.errors import DatasetError

Action = Literal["tag", "keep", "remove"]

_INFO = "isoclip_removed"
"""Where an archive says whose samples it holds, and which runs their fields are of."""


@dataclass(frozen=True, slots=True)
class ResolveReport:
    """What was done to how many groups and samples; no file was touched.

    ``archive`` is the dataset that holds the removed samples. ``conflicts`` counts the labels of
    removed samples that contradicted those of their keeper.
    """

    dataset: fo.Dataset = field(repr=False)
    action: Action
    groups: int
    samples: int
    merged: int = 0
    conflicts: int = 0
    archive: str | None = None

    def __str__(self) -> str:
        done = {"tag": "tagged as duplicates", "keep": "said to be no duplicates"}
        told = done.get(self.action, f"moved to dataset {self.archive!r}, no file was deleted")
        return f"{self.samples} samples of {self.groups} groups {told}"


@one_writer("key")
def resolve_duplicates(
    dataset: fo.Dataset,
    key: str,
    action: Action = "tag",
    *,
    groups: Sequence[int] | None = None,
    conflict: Conflict = "keeper",
) -> ResolveReport:
    """Tag the duplicates of a run, say that they are none, or remove them from the dataset.

    Args:
        dataset: the dataset of the run.
        key: the run of `find_duplicates` or `find_exact_duplicates`.
        action: "tag" marks what could go with the tag ``duplicate`` and the keepers with
            ``keeper``; "keep" remembers that the groups are no duplicates; "remove" gives keepers
            the tags and labels of their duplicates and moves these to the dataset
            ``<name>-removed``, from where `restore_removed` takes them back. Aliases stay.
        groups: numbers of groups; None for all that are still to be judged.
        conflict: what a keeper's label becomes that a duplicate contradicts: "keeper" leaves it,
            "duplicate" takes the first duplicate's. See `merge_group`.

    Raises:
        DatasetError: there is no such run, action or conflict rule.
    """
    load_run(dataset_of(dataset), key, METHOD)
    if action not in ("tag", "keep", "remove"):
        raise DatasetError(f"action {action!r} was asked for; choose tag, keep or remove")
    check_conflict(conflict)
    names = field_names(key)
    judged = dataset.match(F(names["role"]) == "keeper")
    if groups is not None:
        judged = judged.match(F(names["group"]).is_in(list(groups)))
    numbers = judged.values(names["group"])
    inside = dataset.match(F(names["group"]).is_in(numbers))
    going = inside.match(F(names["role"]) == "duplicate")
    count = going.count()
    if action == "tag":
        going.tag_samples(DUPLICATE_TAG)
        judged.tag_samples(KEEPER_TAG)
        return ResolveReport(dataset, action, len(numbers), count)
    if action == "keep":
        samples = inside.count()
        keep_all(dataset, key, *numbers)
        return ResolveReport(dataset, action, len(numbers), samples)
    with hold(dataset, archive_name(dataset)):
        return archive_samples(dataset, names, going.values("id"), conflict)


def archive_name(dataset: fo.Dataset) -> str:
    """The dataset that holds what was removed from this one."""
    return f"{dataset.name}-removed"


def count_removed(dataset: fo.Dataset) -> int:
    """How many samples `restore_removed` would bring back."""
    name = archive_name(dataset_of(dataset))
    if not fo.dataset_exists(name):
        return 0
    archive = fo.load_dataset(name)
    held = archive.info.get(_INFO) or {}
    return archive.count() if held.get("dataset") == str(dataset._doc.id) else 0


def restore_removed(dataset: fo.Dataset, among: Collection[str] | None = None) -> int:
    """Move what was removed back, with its ids; -> how many samples.

    What keepers were given stays with them. Of runs that were deleted, renamed or replaced since,
    nothing comes back: their numbers of groups would mean other ones. A sample whose file is not in
    its place stays where it is: `undo_file_removal` brings it back with its file.

    Args:
        dataset: the dataset from which samples were removed.
        among: ids of samples; None brings all back.

    Raises:
        DatasetError: nothing was removed, or the dataset of that name holds something else.
    """
    name = archive_name(dataset_of(dataset))
    with hold(dataset, name):
        if not fo.dataset_exists(name):
            raise DatasetError(f"nothing was removed from {dataset.name!r}: there is no {name!r}")
        archive = _open_archive(dataset)
        asked = (archive if among is None else archive.select(list(among))).select(
            [id_ for id_, path in _rows(archive) if Path(path).exists()]
        )
        back = asked.exclude(dataset.select(asked.values("id")).values("id"))
        count = len(back)
        if count:
            dataset.add_collection(back, include_info=False)
        archive.delete_samples(asked.values("id"))
        if not len(archive):
            fo.delete_dataset(name)
    return count


def _rows(samples: Any) -> Iterator[tuple[str, str]]:
    return zip(*samples.values(["id", "filepath"]), strict=True)


def archive_samples(
    dataset: fo.Dataset, names: dict[str, str], ids: Sequence[str], conflict: Conflict
) -> ResolveReport:
    """Move samples of groups to the archive, once their keepers have what they knew.

    Args:
        dataset: the dataset.
        names: the fields of the run, by part.
        ids: of samples that are in groups and keep none.
        conflict: see `resolve_duplicates`.

    Raises:
        DatasetError: the archive holds something else, or not what was put there.
    """
    going = dataset.select(ids)
    numbers = going.distinct(names["group"])
    if not numbers:
        return ResolveReport(dataset, "remove", 0, 0)
    archive, name = _open_archive(dataset), archive_name(dataset)
    keepers = dataset.match(
        F(names["group"]).is_in(numbers) & (F(names["role"]) == "keeper")
    ).values("id")
    merged = conflicts = 0
    order = [(names["group"], 1), (names["rank"], 1)]
    by_group = dataset.select([*keepers, *ids]).sort_by(order)
    for _, samples in groupby(by_group, lambda sample: sample[names["group"]]):
        found = merge_group(samples, names, conflict)
        merged, conflicts = merged + found.merged, conflicts + found.conflicts
    # Added before they go: if this is broken off they are in both, and nothing is lost.
    there = set(archive.select(ids).values("id"))
    archive.add_collection(dataset.select([id_ for id_ in ids if id_ not in there]))
    kept = len(archive.select(ids))
    if kept != len(ids):
        raise DatasetError(
            f"{len(ids)} samples were to be kept in dataset {name!r} and {kept} are there; "
            "nothing was removed, see whether something else writes it"
        )
    dataset.delete_samples(ids)
    return ResolveReport(dataset, "remove", len(numbers), len(ids), merged, conflicts, name)


def _open_archive(dataset: fo.Dataset) -> fo.Dataset:
    """The dataset of what was removed, made if need be, without fields of runs that are gone."""
    name, mine = archive_name(dataset), str(dataset._doc.id)
    there = fo.dataset_exists(name)
    archive = fo.load_dataset(name) if there else fo.Dataset(name, persistent=True)
    held = archive.info.get(_INFO) or {}
    if there and held.get("dataset") != mine:
        raise DatasetError(
            f"dataset {name!r} exists and does not hold what was removed from {dataset.name!r}; "
            "rename or delete it"
        )
    runs = {run.key: [str(run.time), list(run.fields)] for run in list_runs(dataset)}
    before = held.get("runs", {}).items()
    gone = [fields for key, (time, fields) in before if runs.get(key, [None])[0] != time]
    fields = [name for names in gone for name in names if archive.has_field(name)]
    if fields:
        archive.delete_sample_fields(fields)
    archive.info[_INFO] = {"dataset": mine, "runs": runs}
    archive.save()
    return archive
