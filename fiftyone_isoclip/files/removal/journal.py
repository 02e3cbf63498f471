"""The journal of a quarantine: what is about to be taken away is on the disk before it goes."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files.removal.states import FileState, lock
from fiftyone_isoclip.index.whole_files import sync_folder

JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Move:
    """A file that was to be moved to a place (a name in the quarantine), and what stays for it."""

    file: FileState
    place: str
    keeper: FileState


class Journal:
    """An open journal, which no other process can write to."""

    def __init__(self, folder: Path, file: FileIO) -> None:
        self.folder, self._file = folder, file
        self.moves, sound = _read(file)
        file.truncate(sound)  # a line that a killed process did not end
        file.seek(sound)

    def note(self, move: Move) -> None:
        """Write a move down, and wait until it is on the disk.

        Raises:
            RemovalError: it cannot be written; what was noted before is still there.
        """
        end = self._file.tell()
        try:
            line = _line(move)
            while line:
                line = line[os.write(self._file.fileno(), line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise RemovalError(_unwritable(self.folder, error)) from error
        self.moves.append(move)

    @property
    def latest(self) -> list[Move]:
        """One move for each place in the quarantine, the latest first."""
        return list({move.place: move for move in self.moves}.values())[::-1]

    def holds(self, move: Move) -> bool:
        """Whether the file of a move is in the quarantine now."""
        return os.path.lexists(self.folder / move.place)

    def end(self) -> None:
        """Remove the quarantine once it holds nothing but the journal."""
        if {path.name for path in self.folder.iterdir()} != {JOURNAL}:
            return
        (self.folder / JOURNAL).unlink()
        _remove_empty(self.folder)


@contextmanager
def start_journal(folder: Path) -> Iterator[Journal]:
    """Open the journal of a quarantine, made if need be.

    Raises:
        RemovalError: it cannot be made, or another process has it.
    """
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, exist_ok=True)
            sync_folder(each.parent)
        if os.path.realpath(folder) != str(folder):
            raise RemovalError(f"{folder} leads elsewhere; remove the link, or make a new plan")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = FileIO(os.open(folder / JOURNAL, flags, 0o600), "r+")
        sync_folder(folder)
    except OSError as error:
        raise RemovalError(_unwritable(folder, error)) from error
    with _mine(folder, file) as journal:
        yield journal


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal | None]:
    """Open the journal of a quarantine; None if there is no quarantine (any more).

    Raises:
        RemovalError: it cannot be read or is damaged, or another process has it.
    """
    try:
        file = FileIO(os.open(folder / JOURNAL, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+")
    except FileNotFoundError:
        _remove_empty(folder)  # a process may have been killed before its journal, or after
        yield None
        return
    except OSError as error:
        raise RemovalError(f"{folder / JOURNAL} cannot be read: {error.strerror}") from error
    with _mine(folder, file) as journal:
        yield journal


@contextmanager
def _mine(folder: Path, file: FileIO) -> Iterator[Journal]:
    with file:
        try:
            lock(file)
            # Whoever held it may have removed the quarantine meanwhile.
            if os.fstat(file.fileno()).st_nlink == 0:
                raise BlockingIOError
        except BlockingIOError as error:
            raise RemovalError(
                f"another process is working on the quarantine {folder}; try again when it has "
                "ended (a killed process frees it)"
            ) from error
        yield Journal(folder, file)


def _remove_empty(folder: Path) -> None:
    for each in (folder, folder.parent):
        with suppress(OSError):  # it is not there, or holds something
            each.rmdir()


def _line(move: Move) -> bytes:
    content = json.dumps(asdict(move)).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _read(file: FileIO) -> tuple[list[Move], int]:
    """The moves of a journal, and where its whole lines end."""
    moves: list[Move] = []
    sound = 0
    lines = file.read().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        checksum, _, content = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content):
            if number == len(lines):
                break
            raise RemovalError(
                f"line {number} of {file.name} is damaged; nothing was done. The other lines say "
                "where the files beside it belong: move them back by hand"
            )
        value = json.loads(content)
        states = {name: FileState(**value[name]) for name in ("file", "keeper")}
        moves.append(Move(place=value["place"], **states))
        sound += len(line)
    return moves, sound


def _unwritable(folder: Path, error: OSError) -> str:
    free = os.statvfs(next(p for p in (folder, *folder.parents) if p.is_dir()))
    return (
        f"{error.filename or folder} cannot be written: {error.strerror} (a line of the journal "
        f"needs about 1,000 bytes; {free.f_bavail * free.f_frsize:,} bytes are free). What was "
        "done before is in order: make room and apply the plan again, or undo it"
    )
