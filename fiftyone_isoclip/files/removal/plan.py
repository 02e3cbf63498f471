"""A plan of removal: which files go, which stay in their place, and what each is at this moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files.removal.states import FileState
from fiftyone_isoclip.files.reports import write_json

QUARANTINE = ".isoclip-quarantine"
"""The folder that holds what was taken away; listings leave out names that begin with a dot."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Removal:
    """A file to take away: what it is, why it may go, and its place in the quarantine."""

    file: FileState
    kind: Literal["exact", "near"]
    similarity: float
    place: str


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """The file that stays, why it is the one, and those it stands for."""

    keeper: FileState
    reason: str
    remove: tuple[Removal, ...]


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What is to be taken away, group by group; making a plan changes nothing.

    ``roots`` are the folders that nothing leaves. ``skipped`` maps files that could not be planned
    to the reason. ``dataset`` says of which FiftyOne dataset and run it is, if of any.
    """

    id: str
    created: str
    roots: tuple[str, ...]
    groups: tuple[PlannedGroup, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    dataset: Mapping[str, str] | None = None

    @property
    def removals(self) -> list[Removal]:
        """All files to take away."""
        return [removal for group in self.groups for removal in group.remove]

    @property
    def n_bytes(self) -> int:
        """The bytes of the files to take away; the disk has them back after the purge."""
        return sum(removal.file.n_bytes for removal in self.removals)

    @property
    def folders(self) -> list[str]:
        """The folders of the quarantine, one a file system."""
        return sorted({str(Path(removal.place).parent) for removal in self.removals})


def write_plan(path: str | Path, plan: RemovalPlan) -> None:
    """Write a plan to a file, with a checksum.

    Raises:
        IsoClipError: it cannot be written.
    """
    content = {"format": _FORMAT, **asdict(plan)}
    write_json(path, {**content, "sha256": _checksum(content)})


def read_plan(path: str | Path) -> RemovalPlan:
    """Read a plan.

    Raises:
        RemovalError: it cannot be read, is damaged or was edited, or contradicts itself.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        checksum = content.pop("sha256")
    except OSError as error:
        raise RemovalError(f"the plan {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RemovalError(f"{path} is no plan of removal; {_REMEDY}") from error
    if content.get("format") != _FORMAT:
        found = content.get("format")
        raise RemovalError(f"the plan {path} has format {found}, and {_FORMAT} is read; {_REMEDY}")
    if checksum != _checksum(content):
        raise RemovalError(f"the plan {path} is damaged or was edited; {_REMEDY}")
    del content["format"]
    plan = RemovalPlan(
        **{
            **content,
            "roots": tuple(content["roots"]),
            "groups": tuple(_group(group) for group in content["groups"]),
        }
    )
    check_sound(plan)
    return plan


def check_sound(plan: RemovalPlan) -> None:
    """Make sure that a plan takes away no file that it relies on, and none twice.

    Raises:
        RemovalError: it does, or a place lies outside of the roots.
    """
    kept = {group.keeper.identity for group in plan.groups}
    taken = [removal.file.identity for removal in plan.removals]
    if kept & set(taken) or len(set(taken)) < len(taken):
        raise RemovalError("the plan takes away a file that it keeps, or one twice; make it anew")
    for removal in plan.removals:
        place = Path(removal.place)
        if place.parts[-3:-1] != (QUARANTINE, plan.id) or not all(
            is_inside(path, plan.roots) for path in (removal.file.path, removal.place)
        ):
            raise RemovalError(
                f"the plan leaves its roots with {removal.file.path!r}; make it anew"
            )


def is_inside(path: str, roots: tuple[str, ...]) -> bool:
    """Whether a real path lies below one of the roots."""
    return any(Path(path).is_relative_to(root) for root in roots)


_REMEDY = "make one with `isoclip duplicates PATH --plan FILE`"


def _group(value: Mapping[str, Any]) -> PlannedGroup:
    remove = (Removal(**{**each, "file": FileState(**each["file"])}) for each in value["remove"])
    return PlannedGroup(FileState(**value["keeper"]), value["reason"], tuple(remove))


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()
