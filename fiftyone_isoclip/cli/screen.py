"""What a person sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fiftyone_isoclip.files.reports import as_json, write_json

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.report import Page

STDOUT = Path("-")
_SHOWN_ROWS = 20
_SHOWN_NOTES = 5
_ENDLESS = 100_000


def complain(sentence: str) -> None:
    """Say on stderr, in one line, why the command cannot go on."""
    note(f"isoclip: {sentence}")


def note(sentence: str) -> None:
    """Say something beside the result, on stderr."""
    print(printable(sentence), file=sys.stderr)


def note_failures(failed: Mapping[str, str], n: int) -> None:
    """Name the first images that failed, and say how many did."""
    if not failed:
        return
    for path, reason in list(failed.items())[:_SHOWN_NOTES]:
        note(f"skipped {path}: {reason}")
    more = f", {len(failed) - _SHOWN_NOTES} of them not named here" * (len(failed) > _SHOWN_NOTES)
    note(f"{len(failed)} of {n} could not be read{more}")


def note_left(left: Mapping[str, str]) -> None:
    """Name the first files that stay where they are, and say how many do."""
    for path, reason in list(left.items())[:_SHOWN_NOTES]:
        note(f"left {path}: {reason}")
    if len(left) > _SHOWN_NOTES:
        note(f"{len(left)} files are left where they are")


def printable(text: str) -> str:
    r"""Escape what a terminal would not show as it is: newlines, controls, bytes beyond UTF-8."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def report(value: Any, file: Path | None, show: Callable[[], None]) -> None:
    """Give a result: as JSON on stdout for ``-``, else shown, and written if a file is named."""
    if file == STDOUT:
        sys.stdout.write(as_json(value))
    else:
        show()
    sys.stdout.flush()  # the App, or another long step, may come after the result
    if file not in (None, STDOUT):
        write_json(file, value)
        note(f"wrote {file}")


def write_report(file: Path, page: Page) -> None:
    """Write a result as an HTML page, and say so."""
    from fiftyone_isoclip.evaluation.report import write_page  # jinja2 and Pillow: few ask for it

    write_page(file, page)
    note(f"wrote {file}")


def show_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; nothing in a cell is taken for markup, and long ones are cut by the row."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    cells = [[Text(printable(str(cell)), overflow="fold") for cell in row] for row in rows]
    for row in cells[:_SHOWN_ROWS]:
        table.add_row(*row)
    # Where nobody looks at the width, a path must stay in one piece.
    Console(width=None if sys.stdout.isatty() else _ENDLESS).print(table)
    if len(cells) > _SHOWN_ROWS:
        say(f"... and {len(cells) - _SHOWN_ROWS} more (--json FILE holds all)")


def say(result: object) -> None:
    """Print lines of the result."""
    print(*map(printable, str(result).split("\n")), sep="\n")


@contextmanager
def on_stderr() -> Iterator[None]:
    """Send to stderr what libraries print, FiftyOne's bars for one: stdout is for results."""
    with redirect_stdout(_Aside()):
        yield


class _Aside(TextIOBase):
    """Not stderr itself: FiftyOne's bars swap the stream of every handler that writes to stdout."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def progress_bar(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the body runs; the body is given a function that moves it on."""
    with _bar() as progress:
        task = progress.add_task(doing, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """As `progress_bar`, of several steps: the body says what is being done, how much, of what."""
    with _bar() as progress:
        task = progress.add_task("")

        def move(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total)

        yield move


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
