"""Files of duplicates taken away and brought back, together with the samples they are of."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.groups import (
    DEFAULT_KEY,
    METHOD,
    SampleGroup,
    field_names,
    load_duplicates,
)
from fiftyone_isoclip.dataset.locks import hold
from fiftyone_isoclip.dataset.merging import Conflict, check_conflict
from fiftyone_isoclip.dataset.resolving import archive_name, archive_samples, restore_removed
from fiftyone_isoclip.dataset.runs import load_run
from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files.groups import FileGroup, FileMember
from fiftyone_isoclip.files.removal import (
    ApplyReport,
    RemovalPlan,
    UndoReport,
    apply_plan,
    media_roots,
    plan_removal,
    undo_plan,
)
from fiftyone_isoclip.files.removal.applying import Progress


def plan_file_removal(
    dataset: fo.Dataset,
    key: str = DEFAULT_KEY,
    *,
    near: bool = False,
    roots: Sequence[str | Path] | None = None,
) -> RemovalPlan:
    """Plan to take the files of a run's duplicates away; every file is read, nothing is changed.

    Args:
        dataset: the dataset of the run.
        key: the run of `find_duplicates` or `find_exact_duplicates`; what was said in a review
            counts.
        near: whether near copies go too, and not only byte-identical ones.
        roots: the folders that nothing leaves; by default those that hold all files of the groups.

    Raises:
        DatasetError: there is no such run.
        RemovalError: a root is no folder.
    """
    run = load_run(dataset_of(dataset), key, METHOD)
    groups = [_files_of(group) for group in load_duplicates(dataset, key).groups]
    paths = [path for g in groups for path in (g.keeper, *(m.path for m in g.members))]
    named = {"name": dataset.name, "id": str(dataset._doc.id), "run": key, "time": str(run.time)}
    where = media_roots(paths) if roots is None else roots
    return plan_removal(groups, where, near=near, dataset=named)


def apply_file_removal(
    plan: RemovalPlan, *, conflict: Conflict = "keeper", progress: Progress | None = None
) -> ApplyReport:
    """Move the files of a plan into quarantine, and their samples to the archive of the dataset.

    Keepers get the tags and labels of their duplicates first, as by `resolve_duplicates`. If this
    is broken off, applying the plan again ends it.

    Raises:
        DatasetError: the dataset or its run is gone, or another process writes them.
        RemovalError: the run was made anew since, or see `apply_plan`.
    """
    check_conflict(conflict)
    dataset, key = dataset_of_plan(plan)
    with hold(dataset, key), hold(dataset, archive_name(dataset)):
        _check_same_run(plan, dataset, key)
        report = apply_plan(plan, progress=progress)
        names = field_names(key)
        others = dataset.match(F(names["role"]).is_in(["duplicate", "alias"]))
        archive_samples(dataset, names, _samples_of(others, report.gone), conflict)
    return report


def undo_file_removal(plan: RemovalPlan) -> UndoReport:
    """Bring the files of a plan back to where they were, and their samples to the dataset.

    Raises:
        DatasetError: the dataset is gone, or another process writes it.
        RemovalError: see `undo_plan`.
    """
    dataset, _key = dataset_of_plan(plan)
    report = undo_plan(plan)
    back = [r.file.path for r in plan.removals if os.path.lexists(r.file.path)]
    name = archive_name(dataset)
    if fo.dataset_exists(name):
        restore_removed(dataset, _samples_of(fo.load_dataset(name), back))
    return report


def dataset_of_plan(plan: RemovalPlan) -> tuple[fo.Dataset, str]:
    """The dataset of a plan, which may have another name by now, and the key of its run.

    Raises:
        RemovalError: it is of no dataset, or of one that is gone.
    """
    of = plan.dataset
    if of is None:
        raise RemovalError("the plan is of files without a dataset; use apply_plan and undo_plan")
    names = fo.list_datasets()
    for name in sorted(names, key=lambda name: name != of["name"]):
        dataset = fo.load_dataset(name)
        if str(dataset._doc.id) == of["id"]:
            return dataset, of["run"]
    raise RemovalError(
        f"the dataset {of['name']!r} of this plan is gone; undo_plan (or `isoclip undo "
        "--files-only`) brings its files back without it"
    )


def _files_of(group: SampleGroup) -> FileGroup:
    """The files of a group of samples, each by a name that is no link if a sample has one."""
    keeper = os.path.realpath(group.path)
    found: dict[str, FileMember] = {}
    for copy in group.copies:
        real = os.path.realpath(copy.path)
        known = found.get(real)
        if real != keeper and (known is None or Path(known.path).is_symlink()):
            kind: Literal["exact", "near"] = "near" if copy.kind == "near" else "exact"
            found[real] = FileMember(copy.path, copy.similarity, kind)
    members = tuple(found.values())
    return FileGroup(group.path, group.reason, group.least_similarity, members)


def _check_same_run(plan: RemovalPlan, dataset: fo.Dataset, key: str) -> None:
    made = (plan.dataset or {}).get("time")
    found = str(load_run(dataset, key, METHOD).time)
    if found != made:
        raise RemovalError(
            f"run {key!r} of dataset {dataset.name!r} was made anew at {found} UTC; the plan "
            f"is of the one of {made}, so make a new one"
        )


def _samples_of(samples: fo.Dataset | fo.DatasetView, real_paths: Collection[str]) -> list[str]:
    """The ids of the samples whose file is, or leads to, one of these real paths."""
    gone = set(real_paths)
    ids, paths = samples.values(["id", "filepath"])
    return [id_ for id_, path in zip(ids, paths, strict=True) if os.path.realpath(path) in gone]
