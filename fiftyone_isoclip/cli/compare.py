"""`isoclip compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
    progress_bar,
    report,
    say,
    show_table,
    write_report,
)
from fiftyone_isoclip.cli.sources import embed_source, require_images
from fiftyone_isoclip.evaluation.disagreements import COUNT, MOST_NEAR, MOST_PAIRS, NEAR

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.space_pairs import SpacePairs

Count = Annotated[
    int,
    typer.Option(
        "-k",
        "--count",
        min=1,
        max=MOST_PAIRS,
        help="Pairs of those nearer in plain CLIP, and of those nearer in the band.",
    ),
]
Near = Annotated[
    int,
    typer.Option(
        "--near",
        min=1,
        max=MOST_NEAR,
        help="A pair must be among so many nearest neighbours in one space.",
    ),
]
Queries = Annotated[
    int | None,
    typer.Option(
        "--queries",
        metavar="N",
        min=1,
        help="Ask about N images picked at random; by default all of up to 20,000, and 2,000 of "
        "more.",
        show_default=False,
    ),
]


def run_compare(
    path: ImagesPath,
    model: ModelName = None,
    band: BandChoice = None,
    count: Count = COUNT,
    near: Near = NEAR,
    queries: Queries = None,
    json: JsonFile = None,
    report_file: ReportFile = None,
    device: Device = "auto",
) -> None:
    """Show where plain CLIP and IsoCLIP disagree most: pairs near in one and far in the other.

    What is compared is the rank of an image among the neighbours of another one, since cosines of
    two spaces do not compare. The pairs show where the spaces differ and not which one is right;
    that, `isoclip evaluate` measures.
    """
    clip, embedded = embed_source(path, model, device, band)
    # Imported only now: a wrong path is told at once, without the seconds that torch takes.
    from fiftyone_isoclip.evaluation.space_pairs import Spaces, pair_spaces
    from fiftyone_isoclip.index.agreement import pick_queries
    from fiftyone_isoclip.index.vectors import unit_rows

    chosen = band or clip.image_band
    spaces = Spaces(
        clip.checkpoint.name,
        str(chosen),
        unit_rows(embedded.embeddings),
        clip.isoclip(chosen)(embedded.embeddings),
        embedded.embedded_paths,
    )
    rows = pick_queries(len(spaces.names), queries)
    with progress_bar("Comparing", len(rows)) as advance:
        found = pair_spaces(spaces, rows, count=count, near=near, told=advance)
    left_out = {"failed": embedded.failed, "aliases": list(embedded.aliases)}
    report({**found.to_json(), **left_out}, json, lambda: _show(found))
    require_images(path, embedded)
    if report_file is not None:
        write_report(report_file, found.page(images_of=path, device=clip.device))


def _show(found: SpacePairs) -> None:
    say(found.verdict)
    rows = [
        (pair.plain.rank, pair.isoclip.rank, f"{pair.factor:.1f}", pair.query, pair.neighbor)
        for pair in found.pairs
    ]
    if rows:
        band = f"IsoCLIP {found.band}"
        show_table(("rank in plain CLIP", f"rank in {band}", "factor", "query", "neighbour"), rows)
