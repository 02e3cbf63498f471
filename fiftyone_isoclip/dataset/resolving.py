"""What becomes of duplicates in a dataset: tags, removal with what they knew, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.groups import METHOD, field_names
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
    return _remove(dataset, names, inside, numbers, conflict)


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


def restore_removed(dataset: fo.Dataset) -> int:
    """Move everything that was removed back, with its ids; -> how many samples.

    What keepers were given stays with them. Of runs that were deleted, renamed or replaced since,
    nothing comes back: their numbers of groups would mean other ones.

    Raises:
        DatasetError: nothing was removed, or the dataset of that name holds something else.
    """
    name = archive_name(dataset_of(dataset))
    if not fo.dataset_exists(name):
        raise DatasetError(f"nothing was removed from {dataset.name!r}: there is no {name!r}")
    archive = _open_archive(dataset)
    back = archive.exclude(dataset.select(archive.values("id")).values("id"))
    count = len(back)
    if count:
        dataset.add_collection(back, include_info=False)
    fo.delete_dataset(name)
    return count


def _remove(
    dataset: fo.Dataset, names: dict[str, str], inside: Any, numbers: list[int], conflict: Conflict
) -> ResolveReport:
    going = inside.match(F(names["role"]) == "duplicate")
    ids, count = going.values("id"), going.count()
    if not count:
        return ResolveReport(dataset, "remove", 0, 0)
    archive, name = _open_archive(dataset), archive_name(dataset)
    merged = conflicts = 0
    by_group = inside.sort_by([(names["group"], 1), (names["rank"], 1)])
    for _, samples in groupby(by_group, lambda sample: sample[names["group"]]):
        found = merge_group(samples, names, conflict)
        merged, conflicts = merged + found.merged, conflicts + found.conflicts
    # Added before they go: if this is broken off they are in both, and nothing is lost.
    there = set(archive.select(ids).values("id"))
    archive.add_collection(dataset.select([id_ for id_ in ids if id_ not in there]))
    kept = len(archive.select(ids))
    if kept != count:
        raise DatasetError(
            f"{count} samples were to be kept in dataset {name!r} and {kept} are there; "
            "nothing was removed, see whether something else writes it"
        )
    dataset.delete_samples(ids)
    return ResolveReport(dataset, "remove", len(numbers), count, merged, conflicts, name)


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
