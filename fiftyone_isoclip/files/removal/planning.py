"""From groups of duplicates to a plan: who may go, and where to."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files.removal.plan import (
    QUARANTINE,
    PlannedGroup,
    Removal,
    RemovalPlan,
    check_sound,
    is_inside,
)
from fiftyone_isoclip.files.removal.states import HARD_LINKED, FileState, Identity, why

if TYPE_CHECKING:
    from fiftyone_isoclip.files.groups import FileGroup, FileMember


def plan_removal(
    groups: Iterable[FileGroup],
    roots: Sequence[str | Path],
    *,
    near: bool = False,
    dataset: Mapping[str, str] | None = None,
) -> RemovalPlan:
    """Plan to take the duplicates of groups away; every file is read, nothing is changed.

    Byte-identical copies are planned; near ones only if ``near`` says so, for their very bytes
    are nowhere else. A link, a file with several names, and whatever cannot be read, is left
    alone, with the reason in ``skipped``.

    Args:
        groups: from `find_file_duplicates`.
        roots: the folders that nothing leaves.
        near: whether to plan near copies too.
        dataset: name, id and run of the FiftyOne dataset that the groups are of.

    Raises:
        RemovalError: a root is no folder.
    """
    real_roots = tuple(sorted({_root(root) for root in roots}))
    found = list(groups)
    made = _Planner(uuid.uuid4().hex, real_roots, near)
    made.keep(found)
    planned = [group for group in map(made.plan, found) if group is not None]
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    plan = RemovalPlan(made.id, created, real_roots, tuple(planned), made.skipped, dataset)
    check_sound(plan)
    return plan


def media_roots(paths: Collection[str]) -> list[str]:
    """The folders that hold files: the deepest one in common, for each folder at the very top."""
    by_top: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder = os.path.realpath(Path(path).parent)
        by_top["".join(Path(folder).parts[:2])].append(folder)
    return sorted(os.path.commonpath(folders) for folders in by_top.values())


class _Planner:
    """Goes through groups, noting what was planned and what was left alone."""

    def __init__(self, plan_id: str, roots: tuple[str, ...], near: bool) -> None:
        self.id, self.roots, self.near = plan_id, roots, near
        self.skipped: dict[str, str] = {}
        self.keepers: dict[str, FileState] = {}
        self.staying: set[Identity] = set()
        self.going: set[Identity] = set()

    def keep(self, groups: Sequence[FileGroup]) -> None:
        """Look at all keepers first: none of them may go, by whatever name it is listed."""
        for group in groups:
            try:
                path = os.path.realpath(group.keeper)
                self.require_inside(path)
                self.keepers[group.keeper] = FileState.of(path)
            except (OSError, ValueError) as error:
                self.skipped[group.keeper] = f"the keeper: {_reason(error)}"
        self.staying = {state.identity for state in self.keepers.values()}

    def plan(self, group: FileGroup) -> PlannedGroup | None:
        """What goes of a group, or None if nothing does."""
        keeper = self.keepers.get(group.keeper)
        if keeper is None:
            return None
        remove: list[Removal] = []
        for member in group.members:
            try:
                remove.append(self.removal(member, keeper))
            except (OSError, ValueError) as error:
                self.skipped[member.path] = _reason(error)
        return PlannedGroup(keeper, group.reason, tuple(remove)) if remove else None

    def removal(self, member: FileMember, keeper: FileState) -> Removal:
        """Plan one file.

        Raises:
            ValueError: it is to be left alone, and why.
            OSError: it cannot be read.
        """
        # The folders of a path may be links, the file itself must not be one.
        given = Path(os.path.abspath(member.path))  # noqa: PTH100  (resolve() would follow links)
        path = os.path.join(os.path.realpath(given.parent), given.name)  # noqa: PTH118
        self.require_inside(path)
        state = FileState.of(path)
        if state.identity in self.staying:
            raise ValueError("it is another name of a file that stays")
        if os.lstat(path).st_nlink > 1:
            raise ValueError(HARD_LINKED)
        if state.identity in self.going:
            raise ValueError("it is another name of a file that goes already")
        exact = state.content == keeper.content
        if not exact and not self.near:
            raise ValueError("it is like its keeper, but not byte-identical")
        self.going.add(state.identity)
        name = f"{len(self.going):06d}{Path(path).suffix[:16]}"
        place = str(_top(path, state.device, self.roots) / QUARANTINE / self.id / name)
        return Removal(state, "exact" if exact else "near", member.similarity, place)

    def require_inside(self, path: str) -> None:
        """Refuse a real path that is in none of the roots.

        Raises:
            ValueError: with the roots.
        """
        if not is_inside(path, self.roots):
            raise ValueError(f"it lies outside of {', '.join(self.roots)}")


def _root(root: str | Path) -> str:
    real = Path(os.path.realpath(root))
    if not real.is_dir():
        raise RemovalError(f"the root {root} is no folder; name the folder of the images")
    return str(real)


def _top(path: str, device: int, roots: tuple[str, ...]) -> Path:
    """The highest folder above a file that is inside a root and on the same file system."""
    above = [parent for parent in Path(path).parents if is_inside(str(parent), roots)]
    return [parent for parent in above if parent.stat().st_dev == device][-1]


def _reason(error: OSError | ValueError) -> str:
    return why(error) if isinstance(error, OSError) else str(error)
