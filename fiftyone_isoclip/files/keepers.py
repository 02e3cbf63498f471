"""Which of several like files to keep, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags

from fiftyone_isoclip.encoder.images import header
from fiftyone_isoclip.errors import ImageError, IsoClipError
from fiftyone_isoclip.files.listing import file_size

FILE_KEEPER_RULES = ("largest", "sharpest", "earliest")
"""The rules that need nothing but the files."""

KEEPER_RULES = (*FILE_KEEPER_RULES, "most_labels", "preferred_tag")
DEFAULT_KEEPER_RULE = "largest"


@dataclass(frozen=True, slots=True)
class KeeperRanking:
    """``prefer`` (n,): the place of each row, 0 the best keeper; ``reasons``: why, row by row."""

    prefer: npt.NDArray[np.int64]
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class _Merit:
    """How a file fares by a rule: a lower ``order`` comes first, infinity is unknown."""

    order: float
    found: str = ""


@dataclass(frozen=True, slots=True)
class _Size:
    """The extent of a file, zeros where it cannot be read."""

    width: int = 0
    height: int = 0
    n_bytes: int = 0

    @classmethod
    def of(cls, path: str) -> _Size:
        try:
            with header(path) as image:
                return cls(*image.size, file_size(path))
        except (ImageError, OSError):
            return cls()

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def __str__(self) -> str:
        if not self.pixels:
            return "unreadable"
        return f"{self.width}x{self.height}, {readable_bytes(self.n_bytes)}"


def rank_keepers(
    paths: Sequence[str],
    rule: str = DEFAULT_KEEPER_RULE,
    *,
    labels: Sequence[int] | None = None,
    tagged: Sequence[bool] | None = None,
) -> KeeperRanking:
    """Rank n files by how much each deserves to be the one that stays.

    Rules: ``largest`` (pixels, then bytes), ``sharpest`` (variance of the Laplacian at one size),
    ``earliest`` (the EXIF time of capture, else the file's time), ``most_labels`` (by ``labels``,
    a count for each file) and ``preferred_tag`` (by ``tagged``). Equals go by size, then by the
    shorter path ("a.jpg" before "a copy.jpg"), then by the alphabet. A file that cannot be read
    comes last.

    Raises:
        IsoClipError: the rule is unknown, or what it goes by was not given for every file.
    """
    merits = _merits(paths, rule, labels, tagged)
    sizes = [_Size.of(path) for path in paths]

    def standing(row: int) -> tuple[bool, float, int, int, int, str]:
        size, path = sizes[row], paths[row]
        return not size.pixels, merits[row].order, -size.pixels, -size.n_bytes, len(path), path

    prefer = np.empty(len(paths), np.int64)
    prefer[sorted(range(len(paths)), key=standing)] = np.arange(len(paths))
    reasons = [
        f"{rule}: " + ", ".join(filter(None, (merit.found, str(size))))
        for merit, size in zip(merits, sizes, strict=True)
    ]
    return KeeperRanking(prefer, reasons)


def readable_bytes(count: int) -> str:
    """A number of bytes for people, in decimal units: ``84 kB``."""
    amount, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}" if unit != "bytes" and amount < 9.95 else f"{amount:.0f} {unit}"


def _merits(
    paths: Sequence[str], rule: str, labels: Sequence[int] | None, tagged: Sequence[bool] | None
) -> list[_Merit]:
    if rule == "largest":
        return [_Merit(0)] * len(paths)
    if rule == "sharpest":
        return [_sharpness(path) for path in paths]
    if rule == "earliest":
        return [_age(path) for path in paths]
    if rule == "most_labels":
        counts = _given(labels, paths, "most_labels goes by a count of labels")
        return [_Merit(-count, f"{count} label{'s' * (count != 1)}") for count in counts]
    if rule == "preferred_tag":
        marks = _given(tagged, paths, "preferred_tag goes by which files carry the tag")
        return [_Merit(not mark, "tagged" if mark else "not tagged") for mark in marks]
    raise IsoClipError(f"{rule!r} is no rule for keepers; choose from {', '.join(KEEPER_RULES)}")


def _given(values: Iterable[int] | None, paths: Sequence[str], need: str) -> list[int]:
    given = [] if values is None else [int(value) for value in values]
    if len(given) != len(paths):
        raise IsoClipError(f"{need}; {len(given)} were given for {len(paths)} files")
    return given


def _sharpness(path: str) -> _Merit:
    # Only this rule decodes pixels; the others must not wait for torch to be imported.
    from fiftyone_isoclip.files.sharpness import sharpness

    try:
        found = sharpness(path)
    except ImageError:
        return _Merit(inf, "cannot be decoded")
    return _Merit(-found, f"sharpness {found:.0f}")


def _age(path: str) -> _Merit:
    try:
        taken = _time_of_capture(path)
        time = taken or datetime.fromtimestamp(Path(path).stat().st_mtime)
    except (ImageError, OSError, ValueError):
        return _Merit(inf)
    # Not time.timestamp(): it fails on the year 1 that some cameras write.
    age = (time - datetime(1970, 1, 1)).total_seconds()
    return _Merit(age, f"{'taken' if taken else 'modified'} {time.isoformat(' ', 'seconds')}")


def _time_of_capture(path: str) -> datetime | None:
    with header(path) as image:
        written = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    try:
        return datetime.strptime(str(written).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
