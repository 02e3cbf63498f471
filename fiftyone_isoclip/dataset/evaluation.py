"""Retrieval by label measured on samples: plain CLIP, bands and baselines on the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou

from fiftyone_isoclip.dataset.comparisons import Progress, open_plain
from fiftyone_isoclip.dataset.evaluation_reports import (
    DEFAULT_KEY,
    METHOD,
    EvaluationReport,
    evaluation_view,
    field_names,
)
from fiftyone_isoclip.dataset.evaluation_sides import Sides, split_sides
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import Column, check_free, save_run
from fiftyone_isoclip.dataset.spaces import Space
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.evaluation.evaluate import Evaluation, Task, evaluate_retrieval
from fiftyone_isoclip.evaluation.inversion_method import oti_method
from fiftyone_isoclip.evaluation.latency import seconds_a_query
from fiftyone_isoclip.evaluation.methods import PLAIN, Method, distinct_bands
from fiftyone_isoclip.evaluation.report import write_page
from fiftyone_isoclip.evaluation.scores import DECISIVE
from fiftyone_isoclip.files.reports import check_report
from fiftyone_isoclip.projector import Band


@one_writer("key")
def evaluate(
    samples: Any,
    label_field: str,
    *,
    field: str = DEFAULT_FIELD,
    bands: Sequence[Band | str] | Band | str | None = None,
    queries: int | str | None = None,
    inversion: bool = False,
    key: str = DEFAULT_KEY,
    report: str | Path | None = None,
    progress: Progress = None,
) -> EvaluationReport:
    """Measure how well images of the same label are found, in plain CLIP, bands and baselines.

    Retrieval as in the paper, with 95 % intervals that are paired between methods. Writes
    ``<key>_plain`` and ``<key>_isoclip`` on the queries (their average precision in plain CLIP and
    in the first band), a saved view of them with the worst in the band first, and a run, all named
    by the key; what an earlier evaluation left under the same key is replaced.

    Args:
        samples: a dataset or view with plain embeddings and labels; samples without a label are
            left out.
        label_field: a field of Classifications or text.
        field: the stored embeddings.
        bands: one or more; None for the checkpoint's own. Their counts alone matter: each is
            measured centred on the gallery's mean, too.
        queries: a tag, or the name of a saved view: those samples are asked about, and found are
            all others. Or how many samples to ask about, picked at random (always the same ones);
            found is among all, a query never finds itself. None asks about all of up to 5,000
            samples, and about 2,000 of more.
        inversion: also invert each query through the text tower (OTI) and search with the prompt;
            on a processor that takes seconds a query with most checkpoints.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        report: a file for the report with tables, plots and pictures (HTML).
        progress: whether to show a bar, or a function called with it.

    Raises:
        DatasetError: there are no such embeddings, labels, tag or view, or the key's fields belong
            to something else.
        BandError: a band cannot be read, or keeps nothing.
        IsoClipError: hardly a query has anything to be found, or the report cannot be written;
            if that turns out at the end, the run is kept.
        CheckpointError: the checkpoint's text tower is not at hand, and inversion was asked for.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    if report is not None:
        check_report(Path(report))
    plain = open_plain(samples, field)
    chosen = _read_bands(plain, bands)
    sides = split_sides(samples, plain, label_field, queries)
    task = sides.task(f"{dataset.name} by {label_field}", samples)
    evaluation = _measure(task, plain, chosen, inversion, progress)
    found = EvaluationReport(
        dataset=dataset,
        key=key,
        field=field,
        label_field=label_field,
        checkpoint=plain.origin.checkpoint,
        band=str(chosen[0]),
        n_queries=len(sides.query_rows),
        n_compared=sides.n_compared,
        n_skipped=sides.n_samples - sides.n_compared,
        n_unlabelled=sides.n_unlabelled,
        results=evaluation.to_json(),
        evaluation=evaluation,
    )
    asked: dict[str, Any] = {
        "label_field": label_field,
        "field": field,
        "bands": None if bands is None else [str(band) for band in chosen],
        "queries": queries,
        "inversion": inversion,
    }
    columns = _columns(key, sides, evaluation, chosen[0])
    run = found.run(plain.origin.fingerprint, asked)
    save_run(samples, run, columns, lambda: evaluation_view(dataset, key))
    if report is not None:
        write_page(report, evaluation.page(**asked))
    return found


def _read_bands(plain: Space, bands: Sequence[Band | str] | Band | str | None) -> list[Band]:
    if bands is None:
        bands = plain.clip.image_band
    each = [bands] if isinstance(bands, Band | str) else bands
    chosen = distinct_bands(each, plain.clip.spectrum.rank)
    if not chosen:
        raise DatasetError("no band was given; give at least one, or None for the checkpoint's own")
    return chosen


def _measure(
    task: Task, plain: Space, bands: Sequence[Band], inversion: bool, progress: Progress
) -> Evaluation:
    total = len(task.queries) * (1 + inversion)
    with fou.ProgressBar(total=total, progress=progress, iters_str="queries") as bar:
        extra: list[Method] = []
        seconds: Mapping[str, float] = {}
        if inversion:
            extra.append(oti_method(plain.clip, task.queries, task.gallery, told=bar.update))
            seconds = seconds_a_query(plain.clip, task.query_names, task.gallery, bands)
        return evaluate_retrieval(
            task, plain.clip, bands, extra=extra, seconds=seconds, told=bar.update
        )


def _columns(key: str, sides: Sides, evaluation: Evaluation, band: Band) -> dict[str, Column]:
    columns = {}
    for part, method in (("plain", PLAIN), ("isoclip", f"IsoCLIP {band}")):
        values = evaluation.comparison.of(method).values[DECISIVE].tolist()
        scored = zip(sides.query_ids, values, strict=True)
        known = {id_: value for id_, value in scored if not isnan(value)}
        columns[field_names(key)[part]] = Column(fo.FloatField, known)
    return columns
