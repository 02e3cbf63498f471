"""A page of results: what it consists of, and how it becomes a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from PIL import Image

from fiftyone_isoclip.evaluation.report.machine import describe_machine
from fiftyone_isoclip.evaluation.report.plots import draw_plot
from fiftyone_isoclip.evaluation.report.thumbnails import Thumbnails
from fiftyone_isoclip.index.whole_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BYTES = 5_000_000
"""A page stays under this: it must fit into a mail."""
MOST_ROWS = 500
"""Rows of one table, or of one part with pictures, that are shown."""

_NUMBER = re.compile(r"[<>≤≥~+-]?\d[\d.,]*\s?(%|ms|s)?(\s*[\[(][^a-zA-Z]*[\])])?")
_MISSING = "\N{EN DASH}"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows under column names; a column of numbers is set flush right.

    Floats are shown to three decimals, whole numbers in thousands, None and NaN as a dash; give a
    string for any other form.
    """

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, eq=False)
class Plot:
    """What ``draw`` draws on matplotlib axes; ``size`` in inches of 72 points."""

    title: str
    note: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = (7.0, 4.0)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Rows of pictures with captions; a picture is the path of a file or a Pillow image.

    One that cannot be read is told as such in its place.
    """

    title: str
    note: str
    rows: Sequence[Sequence[tuple[str | Path | Image.Image, str]]]


@dataclass(frozen=True, eq=False)
class Page:
    """A report: ``verdict`` is the first thing that is read, and says no more than was measured.

    ``parameters`` are what the result depends on: data, checkpoint, band, seed.
    """

    title: str
    verdict: str
    parts: Sequence[Table | Plot | Pictures]
    parameters: Mapping[str, object] = field(default_factory=dict)


def write_page(path: str | Path, page: Page) -> None:
    """Write a page as one HTML file, whole or not at all, under 5 MB and without a script.

    It refers to nothing outside itself. Pictures are shrunk until they fit, the last ones left out
    if that does not suffice; the page says so. Versions, machine and date are added.

    Raises:
        IsoClipError: the file cannot be written; the message tells bytes needed and free.
    """
    content = render_page(page)
    write_whole(path, lambda file: file.write(content), len(content))


def render_page(page: Page) -> bytes:
    """The HTML of a page, encoded."""
    thumbnails = Thumbnails()
    parts = [_show(part, thumbnails) for part in page.parts]
    told = {
        "page": page,
        "parts": parts,
        "machine": describe_machine(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    empty = _fill(told)
    notes = thumbnails.fit(MOST_BYTES - len(empty) - 1000)
    return _fill(told | {"left": notes})


def _fill(told: Mapping[str, Any]) -> bytes:
    # A file name that is no UTF-8 is shown by its escapes.
    return _template().render({"left": (), **told}).encode("utf-8", "backslashreplace")


@cache
def _template() -> jinja2.Template:
    source = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    surroundings = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return surroundings.from_string(source)


def _show(part: Table | Plot | Pictures, thumbnails: Thumbnails) -> dict[str, Any]:
    """A part as the template takes it."""
    shown: dict[str, Any] = {"title": part.title, "note": part.note, "more": 0}
    if isinstance(part, Plot):
        return shown | {"kind": "plot", "source": draw_plot(part.draw, part.size)}
    shown["more"] = max(0, len(part.rows) - MOST_ROWS)
    if isinstance(part, Table):
        rows = [list(row) for row in part.rows[:MOST_ROWS]]
        numeric = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
        cells = [[_cell(value) for value in row] for row in rows]
        return shown | {
            "kind": "table",
            "columns": list(zip(part.columns, numeric or [False] * len(part.columns), strict=True)),
            "rows": [list(zip(row, numeric, strict=True)) for row in cells],
        }
    rows = [
        [(thumbnails.of(picture), caption) for picture, caption in row]
        for row in part.rows[:MOST_ROWS]
    ]
    return shown | {"kind": "pictures", "rows": rows}


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or not isinstance(value, str) or _NUMBER.fullmatch(value) is not None


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return _MISSING
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
