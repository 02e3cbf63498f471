"""`isoclip thresholds`."""

from __future__ import annotations

from typing import Annotated

import typer

from fiftyone_isoclip.cli.options import (
    BandChoice,
    Device,
    ImagesPath,
    JsonFile,
    ModelName,
    ReportFile,
)
from fiftyone_isoclip.cli.screen import (
    note_failures,
    progress_bar,
    report,
    say,
    show_table,
    write_report,
)
from fiftyone_isoclip.cli.sources import embed_source, require_images
from fiftyone_isoclip.files.edit_recall import DEFAULT_PICTURES
from fiftyone_isoclip.files.threshold_guide import (
    ThresholdGuide,
    check_guide,
    guide_file_thresholds,
)
from fiftyone_isoclip.index.false_matches import DEFAULT_FALSE_MATCHES, one_in

_WEAKEST = 6

FalseMatches = Annotated[
    float | None,
    typer.Option(
        "--false-matches",
        metavar="SHARE",
        help="The share of all pairs of different files that may match by chance. "
        f"{DEFAULT_FALSE_MATCHES:g} ({one_in(DEFAULT_FALSE_MATCHES)}) by default.",
        show_default=False,
    ),
]
Pictures = Annotated[
    int,
    typer.Option("--pictures", min=0, help="How many pictures to edit, drawn at random."),
]


def run_thresholds(
    path: ImagesPath,
    model: ModelName = None,
    band: BandChoice = None,
    false_matches: FalseMatches = None,
    pictures: Pictures = DEFAULT_PICTURES,
    json: JsonFile = None,
    report_file: ReportFile = None,
    device: Device = "auto",
) -> None:
    """Find out from which similarity on images are duplicates, on your own images.

    False matches are counted over the pairs of your images, each file's bytes once; near-copies
    among them count as false, so a folder without any shows the true rate. Some of your pictures
    are edited in memory, in 23 ways, and compared with what they were.
    """
    check_guide(false_matches, pictures)
    clip, embedded = embed_source(path, model, device, band)
    require_images(path, embedded)
    with progress_bar("Editing", min(pictures, len(embedded.rows))) as advance:
        guide = guide_file_thresholds(
            embedded,
            clip,
            band=band,
            false_matches=false_matches,
            pictures=pictures,
            editing=lambda *_: advance(1),
        )
    note_failures(dict(guide.edits.failed), len(guide.edits.failed) + len(guide.edits.rows))
    report(guide.to_json(), json, lambda: _show(guide))
    if report_file is not None:
        from fiftyone_isoclip.evaluation.threshold_page import guide_page

        write_report(report_file, guide_page(guide, path))


def _show(guide: ThresholdGuide) -> None:
    from fiftyone_isoclip.evaluation.threshold_page import ROW_COLUMNS, recall_cell, row_cells

    say(guide.verdict)
    show_table(ROW_COLUMNS, map(row_cells, guide.rows))
    row = next((row for row in guide.rows if row.similarity == guide.suggested), guide.rows[-1])
    weakest = sorted(row.by_kind, key=lambda kind: row.by_kind[kind].share)[:_WEAKEST]
    if weakest:
        say(f"\nhardest at {row.similarity:g}")
        cells = [(kind, recall_cell(row.by_kind[kind])) for kind in weakest]
        show_table(("edit", "recognised"), cells)
