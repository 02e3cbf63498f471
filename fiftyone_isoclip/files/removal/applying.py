"""Carrying out a plan: checked once more, written down, then moved into the quarantine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files.removal.journal import Journal, Move, start_journal
from fiftyone_isoclip.files.removal.plan import PlannedGroup, Removal, RemovalPlan, check_sound
from fiftyone_isoclip.files.removal.states import ChangedError, Identity, hold, why
from fiftyone_isoclip.index.whole_files import sync_folder

Progress = Callable[[int, int], object]
"""Is told how many groups are done, and of how many."""


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What is in the quarantine now.

    ``moved`` are the real paths taken away by this call, ``already`` those by an earlier one;
    ``skipped`` maps the files left in their place to the reason.
    """

    moved: tuple[str, ...]
    already: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    n_bytes: int = 0

    @property
    def gone(self) -> tuple[str, ...]:
        """All files of the plan that are in the quarantine."""
        return self.moved + self.already


def apply_plan(plan: RemovalPlan, *, progress: Progress | None = None) -> ApplyReport:
    """Move the files of a plan into the quarantine of their file system, from where undo is sure.

    Every file, those that stay included, is read once more; a group in which anything changed is
    left alone, and so is one whose keeper cannot be decoded. A process killed at any moment is
    mended by applying the plan again, or undone.

    Raises:
        RemovalError: the plan contradicts itself, the quarantine cannot be written, or another
            process is at work on the same plan.
    """
    check_sound(plan)
    moved: list[Removal] = []
    already: list[Removal] = []
    skipped: dict[str, str] = {}
    with _journals(plan) as journals:
        for done, group in enumerate(plan.groups, 1):
            there = [removal for removal in group.remove if _is_moved(removal)]
            left = [removal for removal in group.remove if removal not in there]
            already += there
            for removal, reason in _apply_group(group, left, journals):
                if reason is None:
                    moved.append(removal)
                else:
                    skipped[removal.file.path] = reason
            if progress is not None:
                progress(done, len(plan.groups))
    return ApplyReport(
        moved=tuple(removal.file.path for removal in moved),
        already=tuple(removal.file.path for removal in already),
        skipped=skipped,
        n_bytes=sum(removal.file.n_bytes for removal in moved),
    )


@contextmanager
def _journals(plan: RemovalPlan) -> Iterator[dict[str, Journal]]:
    with ExitStack() as opened:
        journals = {
            folder: opened.enter_context(start_journal(Path(folder))) for folder in plan.folders
        }
        yield journals
        for journal in journals.values():
            journal.end()  # nothing was moved: leave nothing behind


def _is_moved(removal: Removal) -> bool:
    if not _is_file(removal.place, removal.file.identity):
        return False
    if _is_file(removal.file.path, removal.file.identity):
        # It has both names: an undo was killed between them. It is not moved, then.
        os.unlink(removal.place)  # noqa: PTH108
        return False
    return True


def _is_file(path: str, identity: Identity) -> bool:
    with suppress(OSError):
        found = os.lstat(path)
        return (found.st_dev, found.st_ino) == identity
    return False


def _apply_group(
    group: PlannedGroup, left: Sequence[Removal], journals: Mapping[str, Journal]
) -> Iterator[tuple[Removal, str | None]]:
    """Move what is left of a group; -> each file with the reason if it stays."""
    if not left:
        return
    with ExitStack() as held:
        culprit = group.keeper
        try:
            held.enter_context(hold(group.keeper, shared=True))
            read_image(group.keeper.path)
            for removal in left:
                culprit = removal.file
                held.enter_context(hold(removal.file, shared=False))
        except (ChangedError, ImageError) as error:
            told = "the keeper of its group" if culprit is group.keeper else "a file of its group"
            for removal in left:
                mine = removal.file is culprit
                yield removal, str(error) if mine else f"{told}, {culprit.path}: {error}"
            return
        for removal in left:
            journal = journals[str(Path(removal.place).parent)]
            try:
                _move(removal, group, journal)
                yield removal, None
            except (ChangedError, OSError) as error:
                yield removal, why(error) if isinstance(error, OSError) else str(error)


def _move(removal: Removal, group: PlannedGroup, journal: Journal) -> None:
    place = Path(removal.place)
    if os.path.lexists(place):
        raise ChangedError(f"its place in the quarantine is taken: {place}")
    journal.note(Move(removal.file, place.name, group.keeper))
    os.rename(removal.file.path, place)  # noqa: PTH104
    if not _is_moved(removal):
        # Somebody exchanged the file after it was checked: theirs goes back.
        os.link(place, removal.file.path, follow_symlinks=False)
        os.unlink(place)  # noqa: PTH108
        raise ChangedError("it was replaced while the plan was applied")
    sync_folder(place.parent)
    sync_folder(Path(removal.file.path).parent)
