"""`isoclip tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiftyone_isoclip.cli.labelled_sources import read_dataset
from fiftyone_isoclip.cli.options import (
    Device,
    ImagesPath,
    JsonFile,
    ModelName,
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
from fiftyone_isoclip.cli.sources import (
    DATASET_PREFIX,
    embed_source,
    require_images,
)
from fiftyone_isoclip.cli.spectrum import check_plot

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip
    from fiftyone_isoclip.evaluation.pseudo_labels import TuningSet
    from fiftyone_isoclip.evaluation.tuning import Tuning
    from fiftyone_isoclip.files import FileEmbeddings

LabelField = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FIELD",
        help="The field of a dataset that holds the labels; of a folder the sub-folders' names are "
        "the labels.",
        show_default=False,
    ),
]
WordList = Annotated[
    Path | None,
    typer.Option(
        "--words",
        metavar="FILE",
        help="Without labels: names of what the images show, one a line. Each image is taken for "
        "what the text tower finds most similar.",
        show_default=False,
    ),
]
Copies = Annotated[
    bool,
    typer.Option(
        "--copies",
        help="Without labels: edit up to 150 of the images in memory, and see which band finds the "
        "copies again.",
    ),
]
PlotFile = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.png",
        callback=check_plot,
        help="Draw the map of all bands, without and with centring; .svg and .pdf work as well.",
        show_default=False,
    ),
]


def run_tune(
    path: ImagesPath,
    model: ModelName = None,
    labels: LabelField = None,
    words: WordList = None,
    copies: Copies = False,
    json: JsonFile = None,
    report_file: ReportFile = None,
    plot: PlotFile = None,
    device: Device = "auto",
) -> None:
    """Find the band that suits your images, or that plain CLIP is to be kept.

    Every band is scored on one half of the images, with and without centring, and the best on the
    other half beside plain and mean-centred CLIP: it is recommended only if it beats both there
    beyond the 95% intervals. What is found without labels is as good as the stand-in. Nothing is
    changed: give the band to the other commands as --band. One that ends in -centred they refuse:
    it needs a dataset, in Python, after isoclip.fit_centre(dataset).
    """
    _check_ways(path, labels, words, copies)
    names = None if words or copies else _read_labels(path, labels)
    asked = None if words is None else _read_words(words)
    clip, embedded = embed_source(path, model, device)
    require_images(path, embedded)
    labelled = _label(clip, embedded, names, asked)
    tuning = _tune(clip, labelled)
    _report(tuning, clip.checkpoint.name, path, json)
    if report_file is not None:
        from fiftyone_isoclip.evaluation.tuning_page import tuning_page

        write_report(report_file, tuning_page(tuning, clip.checkpoint.name, {"images from": path}))
    if plot is not None:
        from fiftyone_isoclip.cli.plots import draw_planes

        draw_planes(tuning.planes, clip.checkpoint.name, plot)
        note(f"drew {plot}")


def _check_ways(path: str, labels: str | None, words: Path | None, copies: bool) -> None:
    if sum([labels is not None, words is not None, copies]) > 1:
        raise typer.BadParameter("give one of --labels FIELD, --words FILE and --copies")
    of_dataset = path.startswith(DATASET_PREFIX)
    if labels is not None and not of_dataset:
        raise typer.BadParameter(
            "--labels FIELD goes with dataset:NAME; of a folder the sub-folders are the labels"
        )
    if of_dataset and not (labels or words or copies):
        raise typer.BadParameter("a dataset needs --labels FIELD, --words FILE or --copies")


def _read_labels(path: str, field: str | None) -> dict[str, str]:
    """The label of each file that has one."""
    from fiftyone_isoclip.evaluation.labelled_files import read_folder

    instead = "find a band without labels by --words FILE or --copies"
    found = read_folder(path, instead) if field is None else read_dataset(path, field)
    return dict(zip(found.names, found.labels, strict=True))


def _read_words(path: Path) -> list[str]:
    from fiftyone_isoclip.evaluation.pseudo_labels import read_words

    return read_words(path)


def _label(
    clip: Clip, embedded: FileEmbeddings, names: dict[str, str] | None, words: list[str] | None
) -> TuningSet:
    from fiftyone_isoclip.evaluation import pseudo_labels as by

    paths, rows = embedded.embedded_paths, embedded.embeddings
    if names is not None:
        return by.label_by_names(rows, [names.get(path) for path in paths])
    if words is not None:
        return by.label_by_words(clip, rows, words)
    with progress_bar("Editing", by.count_originals(len(paths))) as advance:
        found = by.label_by_copies(clip, rows, paths, told=advance)
    note_failures(found.failed, by.count_originals(len(paths)))
    return found


def _tune(clip: Clip, labelled: TuningSet) -> Tuning:
    from fiftyone_isoclip.evaluation.sweep import count_bands, default_step

    rank = clip.spectrum.rank
    with progress_bar("Scoring bands", 2 * count_bands(rank, default_step(rank))) as advance:
        return labelled.tune(clip.spectrum, told=advance)


def _report(tuning: Tuning, checkpoint: str, path: str, json: Path | None) -> None:
    from fiftyone_isoclip.evaluation.tuning_page import tell_tuning, tuning_json

    def show() -> None:
        say(tell_tuning(tuning, checkpoint))
        show_table(("held out", "mAP [95%]"), tuning.held_out.items())

    report({"source": path} | tuning_json(tuning, checkpoint), json, show)
