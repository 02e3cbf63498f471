"""Arguments and options that several sub-commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_isoclip.cli.screen import STDOUT
from fiftyone_isoclip.errors import BandError, IsoClipError
from fiftyone_isoclip.files.reports import check_report
from fiftyone_isoclip.projector import Band


def parse_band(text: str) -> Band:
    """A band from the command line; a malformed one is wrong usage."""
    try:
        return Band.parse(text)
    except BandError as error:
        raise typer.BadParameter(str(error)) from error


def check_output(path: Path | None) -> Path | None:
    """Refuse a file that could not be written, before the work instead of after it."""
    if path is not None and path != STDOUT:
        check_report(path)
    return path


def require_engine(name: str | None, workers: int | None) -> None:
    """Refuse an engine or workers that cannot be, as wrong usage, before anything is loaded."""
    # Imported only now: few commands are about stores, and none of the others needs pyarrow.
    from fiftyone_isoclip.shards.engines import check_engine

    try:
        check_engine(name or "local", workers)
    except IsoClipError as error:
        raise typer.BadParameter(str(error)) from error


ImagesPath = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="A folder of images (with its sub-folders), a text file of paths (one a line), "
        "a file written by `isoclip embed`, or dataset:NAME for a FiftyOne dataset.",
        show_default=False,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A checkpoint of `isoclip models`, or ARCHITECTURE/TAG or ARCHITECTURE/FILE of "
        "open_clip. The default, isoclip-demo, is tiny and works offline.",
        show_default=False,
    ),
]
BandChoice = Annotated[
    Band | None,
    typer.Option(
        "--band",
        metavar="TOP/BOTTOM",
        parser=parse_band,
        help="Directions to drop at either end of the spectrum; 0/0 is plain CLIP. "
        "By default the checkpoint's own band for images.",
        show_default=False,
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        callback=check_output,
        help="Write the whole result as JSON; - prints it instead of the table.",
        show_default=False,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        callback=check_output,
        help="Write a page with the verdict and what it rests on: tables, plots or pictures.",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps, ...")
]
Decoding = Annotated[
    str,
    typer.Option(
        "--decoding",
        metavar="exact|fast",
        help="fast reads JPEGs that are much larger than needed at a fraction of their size; "
        "embeddings then differ by about 1e-5 in cosine.",
    ),
]
