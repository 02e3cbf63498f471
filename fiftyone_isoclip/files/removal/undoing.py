"""Bringing back what a plan took away."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fiftyone_isoclip.files.removal.journal import Journal, Move, open_journal
from fiftyone_isoclip.files.removal.plan import RemovalPlan
from fiftyone_isoclip.files.removal.states import ChangedError, why
from fiftyone_isoclip.index.whole_files import sync_folder

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class UndoReport:
    """``restored`` are the paths that are back; ``left`` maps those that are not to the reason."""

    restored: tuple[str, ...]
    left: Mapping[str, str] = field(default_factory=dict)


def undo_plan(plan: RemovalPlan) -> UndoReport:
    """Move everything that a plan took away back to where it was; nothing is overwritten.

    A folder that is gone is made again. A file whose path is taken by now stays in the
    quarantine. Undoing what was never applied, or twice, does nothing.

    Raises:
        RemovalError: the journal is damaged, or another process is at work on the same plan.
    """
    restored: list[str] = []
    left: dict[str, str] = {}
    for folder in plan.folders:
        with open_journal(Path(folder)) as journal:
            if journal is None:
                continue
            for move in journal.latest:
                try:
                    if journal.holds(move):
                        _restore(journal, move)
                        restored.append(move.file.path)
                    elif not os.path.lexists(move.file.path):
                        left[move.file.path] = "it is in the quarantine no more"
                except ChangedError as error:
                    left[move.file.path] = str(error)
                except OSError as error:
                    left[move.file.path] = why(error)
            journal.end()
    return UndoReport(tuple(restored), left)


def _restore(journal: Journal, move: Move) -> None:
    place, path = journal.folder / move.place, Path(move.file.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.realpath(path.parent) != str(path.parent):
        raise ChangedError(f"a folder in its path has become a link; it is still {place}")
    try:
        # Unlike a rename, a link never takes the place of what is there.
        os.link(place, path, follow_symlinks=False)
    except FileExistsError as error:
        # The same file: a process was killed between the link and the next line.
        if not place.samefile(path):
            raise ChangedError(f"another file has its name now; it is still {place}") from error
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(path):
            raise
        os.rename(place, path)  # noqa: PTH104  (a file system without hard links)
    else:
        sync_folder(path.parent)
    place.unlink(missing_ok=True)
    sync_folder(path.parent)
    sync_folder(journal.folder)
