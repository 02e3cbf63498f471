"""Deleting for good what a plan took away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files.removal.journal import Journal, Move, open_journal
from fiftyone_isoclip.files.removal.plan import RemovalPlan
from fiftyone_isoclip.files.removal.states import ChangedError, hold, why
from fiftyone_isoclip.index.whole_files import sync_folder


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """``purged`` are the paths that cannot be brought back any more, ``n_bytes`` what they took.

    ``left`` maps the files that stay in the quarantine to the reason.
    """

    purged: tuple[str, ...]
    n_bytes: int
    left: Mapping[str, str] = field(default_factory=dict)


def purge_plan(plan: RemovalPlan) -> PurgeReport:
    """Delete what a plan took away; this alone cannot be undone.

    A file stays in the quarantine if what stands for it is not in its place, was changed, or
    cannot be decoded.

    Raises:
        RemovalError: the journal is damaged, or another process is at work on the same plan.
    """
    purged: list[Move] = []
    left: dict[str, str] = {}
    for folder in plan.folders:
        with open_journal(Path(folder)) as journal:
            if journal is None:
                continue
            for move in filter(journal.holds, journal.latest):
                try:
                    _purge(journal, move)
                    purged.append(move)
                except (ChangedError, ImageError) as error:
                    left[move.file.path] = f"its keeper, {move.keeper.path}: {error}"
                except OSError as error:
                    left[move.file.path] = why(error)
            sync_folder(Path(folder))
            journal.end()
    n_bytes = sum(move.file.n_bytes for move in purged)
    return PurgeReport(tuple(move.file.path for move in purged), n_bytes, left)


def _purge(journal: Journal, move: Move) -> None:
    with hold(move.keeper, shared=True):
        read_image(move.keeper.path)
        (journal.folder / move.place).unlink()
