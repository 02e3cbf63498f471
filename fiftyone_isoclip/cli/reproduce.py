"""`isoclip reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiftyone_isoclip.cli.options import (
    Device,
    JsonFile,
    ReportFile,
)
from fiftyone_isoclip.cli.screen import (
    note,
    note_failures,
    progress_bar,
    report,
    say,
    show_table,
    write_report,
)
from fiftyone_isoclip.errors import CheckpointError, IsoClipError

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.reproduction_results import Reproduction
    from fiftyone_isoclip.evaluation.sets import Survey

DataFolder = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="ROOT",
        help="The folder that holds the sets, each in the layout of CoOp or of torchvision.",
    ),
]
ModelNames = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A checkpoint, as elsewhere; may be repeated. By default the four of the paper's "
        "table, which are fetched if they are not here.",
        show_default=False,
    ),
]
SetNames = Annotated[
    str | None,
    typer.Option(
        "--sets",
        metavar="A,B",
        help="Only these sets; by default every one that is there.",
        show_default=False,
    ),
]
Inversion = Annotated[
    bool, typer.Option("--oti", help="Measure OTI inversion as well; slow without a GPU.")
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        file_okay=False,
        help="Keep the embeddings of each set there, so that a run that was stopped goes on. "
        "Images that change later under the same paths are not read again.",
        show_default=False,
    ),
]


def run_reproduce(
    data: DataFolder,
    model: ModelNames = None,
    sets: SetNames = None,
    oti: Inversion = False,
    cache: CacheFolder = None,
    json: JsonFile = None,
    report_file: ReportFile = None,
    device: Device = "auto",
) -> None:
    """Run the paper's experiment on the sets of the paper that are in a folder.

    Plain CLIP and IsoCLIP with the published band are measured by the paper's protocol on caltech,
    cub, roxford, rparis, cars, pets, flowers, aircraft, dtd, eurosat, food101, sun397 and ucf101,
    and text to text on flickr30k, coco and nocaps. Beside the figures of one of the paper's
    checkpoints stand the paper's own. Sets that are not there are listed with who has them.
    """
    from fiftyone_isoclip.evaluation.sets import IMAGE_SETS, TEXT_SETS, survey_sets

    names = [*IMAGE_SETS, *TEXT_SETS] if sets is None else [n.strip() for n in sets.split(",")]
    survey = survey_sets(data, names)
    for name, reason in {**survey.damaged, **survey.absent}.items():
        note(f"{name}: {reason}")
    if not survey.found:
        raise IsoClipError(f"{data} holds none of the {len(names)} sets that can be measured")
    # Imported only now: what is missing is told at once, without the seconds that torch takes.
    from fiftyone_isoclip.evaluation.paper import BACKBONES
    from fiftyone_isoclip.evaluation.report.machine import describe_machine
    from fiftyone_isoclip.evaluation.reproduction_page import make_page, to_json

    done, failed = _reproduce_all(model or list(BACKBONES), survey, oti, cache, device)
    result = {
        "data": str(data),
        "machine": describe_machine(),
        "absent": dict(survey.absent),
        "damaged": dict(survey.damaged),
        "failed_models": failed,
        "reproductions": [to_json(each) for each in done],
    }
    report(result, json, lambda: _show(done))
    if report_file is not None and done:
        write_report(report_file, make_page(done, survey, str(data)))
    if not any(each.results for each in done):
        raise IsoClipError(f"nothing was measured on the {len(survey.found)} sets in {data}")


def _reproduce_all(
    names: list[str], survey: Survey, inversion: bool, cache: Path | None, device: str
) -> tuple[list[Reproduction], dict[str, str]]:
    """Each checkpoint, one in memory at a time; one that cannot be loaded costs no other."""
    from fiftyone_isoclip.encoder import load_clip
    from fiftyone_isoclip.evaluation.reproduction import reproduce

    done: list[Reproduction] = []
    failed: dict[str, str] = {}
    for name in names:
        try:
            # Half precision would move the figures by as much as they differ from the paper's.
            clip = load_clip(name, device=device, precision="float32")
        except CheckpointError as error:
            failed[name] = str(error)
            note(f"{name}: {error}")
            continue
        note(f"{clip.checkpoint.name} on {clip.device}, {clip.precision}")
        found = reproduce(
            survey, clip, inversion=inversion, cache_folder=cache, progress=progress_bar
        )
        done.append(found)
        for result in found.results:
            n = result.n_queries + result.n_gallery + len(result.left_out)
            note_failures(result.left_out, n)
        for set_name, reason in found.failed.items():
            note(f"{set_name}: {reason}")
    return done, failed


def _show(done: list[Reproduction]) -> None:
    from fiftyone_isoclip.evaluation.reproduction_means import verdict
    from fiftyone_isoclip.evaluation.reproduction_page import describe, make_rows

    for found in done:
        say(verdict(found))
        say(describe(found))
        show_table(*make_rows(found))
