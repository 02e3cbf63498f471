"""The plans of removal that the App made of a dataset, kept beside the database."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import fiftyone as fo

from fiftyone_isoclip.dataset.places import side_path
from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files.removal import RemovalPlan, read_plan, write_plan

_ID = re.compile(r"[0-9a-f]{32}")


def keep_plan(dataset: fo.Dataset, plan: RemovalPlan) -> Path:
    """Write a plan where the App finds it; earlier plans that took nothing away make room.

    Raises:
        IsoClipError: it cannot be written.
    """
    for earlier in list_plans(dataset):
        if not count_taken(earlier):
            plan_path(dataset, earlier.id).unlink(missing_ok=True)
    path = plan_path(dataset, plan.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_plan(path, plan)
    return path


def list_plans(dataset: fo.Dataset) -> list[RemovalPlan]:
    """The plans kept of a dataset, the latest first; one that is damaged is left out."""
    plans = []
    for path in _folder(dataset).glob("*.json"):
        with suppress(RemovalError):
            plans.append(read_plan(path))
    return sorted(plans, key=lambda plan: plan.created, reverse=True)


def has_plans(dataset: fo.Dataset) -> bool:
    """Whether a plan is kept of a dataset, without reading it."""
    return any(_folder(dataset).glob("*.json"))


def load_kept_plan(dataset: fo.Dataset, plan_id: str) -> RemovalPlan:
    """One of the plans kept of a dataset.

    Raises:
        RemovalError: there is none of that id.
    """
    if not _ID.fullmatch(plan_id) or not plan_path(dataset, plan_id).is_file():
        raise RemovalError(
            f"dataset {dataset.name!r} has no plan {plan_id!r}; make one with the operator "
            "IsoCLIP: Plan the removal of files"
        )
    return read_plan(plan_path(dataset, plan_id))


def count_taken(plan: RemovalPlan) -> int:
    """How many files of a plan are in the quarantine now."""
    return sum(os.path.lexists(removal.place) for removal in plan.removals)


def plan_path(dataset: fo.Dataset, plan_id: str) -> Path:
    """Where a plan is kept."""
    return _folder(dataset) / f"{plan_id}.json"


def _folder(dataset: fo.Dataset) -> Path:
    return side_path("plans", str(dataset._doc.id))
