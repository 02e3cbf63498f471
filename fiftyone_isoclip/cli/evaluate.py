"""`isoclip evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiftyone_isoclip.cli.labelled_sources import Source, read_source
from fiftyone_isoclip.cli.options import (
    Device,
    JsonFile,
    ModelName,
    ReportFile,
    parse_band,
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
from fiftyone_isoclip.cli.sources import load_model
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.projector import Band

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip
    from fiftyone_isoclip.evaluation.copy_detection import CopyEvaluation, CopyTask
    from fiftyone_isoclip.evaluation.evaluate import Evaluation, Task
    from fiftyone_isoclip.evaluation.methods import Method
    from fiftyone_isoclip.files import FileEmbeddings

Gallery = Annotated[
    str | None,
    typer.Argument(
        metavar="GALLERY",
        help="A folder whose sub-folders are the labels, a folder with groups.csv (copies), the "
        "folder of a --split table, or dataset:NAME with --labels.",
        show_default=False,
    ),
]
QueryFolder = Annotated[
    str | None,
    typer.Option(
        "--queries",
        metavar="DIR",
        help="Search with the images of this folder, its sub-folders being the labels; without, "
        "every image of the gallery searches for its like, or of more than 5,000 some 2,000.",
    ),
]
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        min=1,
        help="Without queries of their own: search with N of the gallery, picked at random, the "
        "same ones each time. By default with all of up to 5,000, with 2,000 of more.",
        show_default=False,
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        "--split",
        metavar="FILE",
        help="A CSV table file,label,split: query or test, gallery or train.",
    ),
]
GroupsFile = Annotated[
    Path | None,
    typer.Option(
        "--groups",
        metavar="FILE",
        help="Copy detection: a CSV table file,group,attack; originals and distractors are called "
        "so. By default groups.csv in the folder, if it is there.",
    ),
]
TextsFile = Annotated[
    Path | None,
    typer.Option("--texts", metavar="FILE", help="Text to text: a CSV table text,label."),
]
LabelField = Annotated[
    str | None,
    typer.Option("--labels", metavar="FIELD", help="The field with the labels of dataset:NAME."),
]
Bands = Annotated[
    list[Band] | None,
    typer.Option(
        "--band",
        metavar="TOP/BOTTOM",
        parser=parse_band,
        help="A band to measure, centred and not; may be repeated. By default the checkpoint's.",
        show_default=False,
    ),
]
Inversion = Annotated[
    bool, typer.Option("--oti", help="Measure OTI inversion as well, and how long a query takes.")
]
Similarity = Annotated[
    float,
    typer.Option(
        "--similarity", min=-1, max=1, help="For copies: where matches are counted as copies."
    ),
]


def run_evaluate(
    gallery: Gallery = None,
    queries: QueryFolder = None,
    sample: Sample = None,
    split: SplitFile = None,
    groups: GroupsFile = None,
    texts: TextsFile = None,
    labels: LabelField = None,
    model: ModelName = None,
    band: Bands = None,
    oti: Inversion = False,
    similarity: Similarity = DEFAULT_SIMILARITY,
    json: JsonFile = None,
    report_file: ReportFile = None,
    device: Device = "auto",
) -> None:
    """Measure on your own images whether IsoCLIP finds the like better than the baselines.

    Retrieval by label (mAP over the full ranking, mAP@R, precision@R, recall@1, and the accuracy of
    the nearest class mean where queries and gallery are apart), of copies by kind of edit, or of
    texts. Beside each band, centred and not, stand plain CLIP, mean-centred CLIP, all-but-the-top,
    whitening and random bands of equal size; 64-bit pHash for copies; OTI inversion if asked for.
    The first line says who is better, with a 95% interval, or that these images do not show it.
    """
    source = read_source(gallery, queries, split, groups, texts, labels)
    if oti and source.texts is not None:
        raise typer.BadParameter("--oti inverts images; --texts FILE names none")
    from fiftyone_isoclip.evaluation.methods import distinct_bands

    if sample is not None and (source.queries is not None or source.copies is not None):
        raise typer.BadParameter("--sample picks queries of the gallery; here they are given")
    clip = load_model(model, device)
    own = clip.image_band if source.texts is None else clip.text_band
    bands = distinct_bands(band or [own], clip.spectrum.rank)
    if source.copies is not None:
        copies = _of_copies(source, clip, bands, oti, similarity)
        found: Evaluation | CopyEvaluation = copies
        report(copies.to_json(), json, lambda: _show_copies(copies))
    else:
        found = _of_labels(source, clip, bands, oti, sample)
        report(found.to_json(), json, lambda: _show(found))
    if report_file is not None:
        told = {"bands": ", ".join(map(str, bands)), "device": clip.device}
        if sampled := _sampled(source, found.task):
            told["sample"] = sampled
        write_report(report_file, found.page(**told))


def _of_labels(
    source: Source, clip: Clip, bands: list[Band], oti: bool, sample: int | None
) -> Evaluation:
    from fiftyone_isoclip.evaluation.embedded_tasks import embed_task, embed_texts
    from fiftyone_isoclip.evaluation.evaluate import evaluate_retrieval

    if source.texts is not None:
        if unknown := clip.unknown_words(source.texts.names):
            note(f"{clip.checkpoint.name} does not know: {', '.join(unknown)}")
        task = embed_texts(source.name, clip, source.texts, sample=sample)
    else:
        assert source.gallery is not None
        with progress_bar("Embedding", source.n_files) as advance:
            task, embedded = embed_task(
                source.name, clip, source.gallery, source.queries, advance, sample=sample
            )
        _note_left(embedded, task.n_repeated)
    if told := _sampled(source, task):
        note(f"searching with {told}; --sample N takes more or fewer")
    extra, seconds = _invert(clip, task, bands) if oti else ([], {})
    with progress_bar("Comparing", len(task.queries)) as advance:
        return evaluate_retrieval(
            task,
            clip,
            bands,
            extra=extra,
            seconds=seconds,
            text=source.texts is not None,
            told=advance,
        )


def _sampled(source: Source, task: Task | CopyTask) -> str:
    """Which queries were picked, empty if none were."""
    n, of = len(task.queries), len(task.gallery)
    if source.queries is not None or source.copies is not None or n == of:
        return ""
    return f"{n:,} of {of:,} picked at random, always the same ones"


def _of_copies(
    source: Source, clip: Clip, bands: list[Band], oti: bool, similarity: float
) -> CopyEvaluation:
    from fiftyone_isoclip.evaluation.copy_detection import evaluate_copies
    from fiftyone_isoclip.evaluation.embedded_tasks import embed_copies
    from fiftyone_isoclip.evaluation.hashing import phash_method

    assert source.copies is not None
    with progress_bar("Embedding", source.n_files) as advance:
        task, embedded = embed_copies(source.name, clip, source.copies, advance)
    _note_left(embedded)
    inverted, seconds = _invert(clip, task, bands) if oti else ([], {})
    extra = [phash_method(task.query_names, task.gallery_names), *inverted]
    with progress_bar("Comparing", len(task.queries)) as advance:
        return evaluate_copies(
            task, clip, bands, extra=extra, seconds=seconds, similarity=similarity, told=advance
        )


def _invert(
    clip: Clip, task: Task | CopyTask, bands: list[Band]
) -> tuple[list[Method], Mapping[str, float]]:
    """Inversion as a method, and how long a query takes with it and without."""
    from fiftyone_isoclip.evaluation.evaluate import Task
    from fiftyone_isoclip.evaluation.inversion_method import oti_method
    from fiftyone_isoclip.evaluation.latency import seconds_a_query

    with progress_bar("Inverting", len(task.queries)) as advance:
        inverted = oti_method(clip, task.queries, task.gallery, told=advance)
    hashed = () if isinstance(task, Task) else task.gallery_names
    files = task.query_names
    return [inverted], seconds_a_query(clip, files, task.gallery, bands, hashed=hashed)


def _note_left(embedded: FileEmbeddings, repeated: int = 0) -> None:
    if repeated:
        note(f"left out {repeated} files that hold the same bytes as another one")
    if embedded.aliases:
        note(f"left out {len(embedded.aliases)} further names (links) of files already listed")
    note_failures(embedded.failed, len(embedded.paths))


def _show(found: Evaluation | CopyEvaluation) -> None:
    from fiftyone_isoclip.evaluation.evaluation_page import in_milliseconds

    say(found.verdict)
    methods = sorted(found.comparison.methods, key=lambda method: -method.mean())
    metrics = list(methods[0].intervals)
    timed = any(method.seconds_per_query is not None for method in methods)
    rows = [
        (
            method.name,
            str(method.intervals[metrics[0]]),
            *(f"{method.mean(metric):.3f}" for metric in metrics[1:]),
            *[in_milliseconds(method.seconds_per_query) or "-"] * timed,
        )
        for method in methods
    ]
    show_table(("method", *metrics, *["a query"] * timed), rows)


def _show_copies(found: CopyEvaluation) -> None:
    from fiftyone_isoclip.evaluation.copy_page import attacks_table, matches_table
    from fiftyone_isoclip.evaluation.scores import RECALL

    _show(found)
    for table in (attacks_table(found, RECALL), matches_table(found)):
        say(f"\n{table.title}")
        rows = [
            [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row]
            for row in table.rows
        ]
        show_table(table.columns, rows)
