"""The band that suits samples: chosen on one half of them, judged on the other, and suggested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fiftyone.core.utils as fou

from fiftyone_isoclip.dataset.comparisons import Progress, open_plain, read_labels
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import check_free, save_run
from fiftyone_isoclip.dataset.spaces import Space
from fiftyone_isoclip.dataset.tuning_reports import DEFAULT_KEY, METHOD, TuningReport, check_ways
from fiftyone_isoclip.evaluation.pseudo_labels import (
    TuningSet,
    check_words,
    count_originals,
    label_by_copies,
    label_by_names,
    label_by_words,
)
from fiftyone_isoclip.evaluation.report import write_page
from fiftyone_isoclip.evaluation.sweep import count_bands, default_step
from fiftyone_isoclip.evaluation.tuning_page import tuning_json, tuning_page
from fiftyone_isoclip.files.reports import check_report


@one_writer("key")
def tune_band(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    label_field: str | None = None,
    words: Sequence[str] | None = None,
    copies: bool = False,
    key: str = DEFAULT_KEY,
    report: str | Path | None = None,
    progress: Progress = None,
) -> TuningReport:
    """Find the band under which images of one label are nearest to each other, and say if it helps.

    Every band is scored on one half of the images, with and without centring, and the best of them
    on the other half beside plain and mean-centred CLIP; it is recommended only if it beats both
    there. No default changes, and nothing is written to the samples: the run remembers the verdict
    and the score of every band.

    Args:
        samples: a dataset or view with plain embeddings. Of more than 5,000, so many are drawn.
        field: the stored embeddings.
        label_field: a field of Classifications or text; samples without a label are left out.
        words: names of what the images show, two or more: each image is labelled by the one that
            the checkpoint's text tower finds most similar.
        copies: whether to edit up to 150 of the images, and label each copy by its original. One
            of ``label_field``, ``words`` and ``copies`` must be given; what is found without labels
            is as good as the stand-in.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        report: a file for the report with a map of all bands (HTML).
        progress: whether to show a bar, or a function called with it.

    Raises:
        DatasetError: there are no such embeddings or labels, not one of the three ways was given,
            or the key belongs to something else.
        VectorError: there are too few labels.
        IsoClipError: the words are too few or no list, or the report cannot be written.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, ())
    check_ways(label_field, words, copies)
    names = None if words is None else check_words(words)
    if report is not None:
        check_report(Path(report))
    asked = {
        "field": field,
        "label_field": label_field,
        "words": names,
        "copies": copies,
    }
    plain = open_plain(samples, field)
    rank = plain.clip.spectrum.rank
    n_edited = count_originals(len(plain.stored.ids)) if copies else 0
    total = 2 * count_bands(rank, default_step(rank)) + n_edited
    with fou.ProgressBar(total=total, progress=progress, iters_str="steps") as bar:
        labelled = _label(samples, plain, label_field, names, bar.update)
        tuning = labelled.tune(plain.clip.spectrum, told=bar.update)
    found = TuningReport(
        dataset=dataset,
        key=key,
        field=field,
        checkpoint=plain.origin.checkpoint,
        n_compared=len(plain.stored.ids),
        n_skipped=len(plain.stored.skipped),
        n_unreadable=len(labelled.failed),
        results=tuning_json(tuning, plain.origin.checkpoint),
        tuning=tuning,
    )
    save_run(samples, found.run(plain.origin.fingerprint, asked), {}, samples.view)
    if report is not None:
        told = {"dataset": dataset.name, "field": field}
        write_page(report, tuning_page(tuning, plain.origin.checkpoint, told))
    return found


def _label(
    samples: Any,
    plain: Space,
    label_field: str | None,
    words: Sequence[str] | None,
    told: Callable[[int], object],
) -> TuningSet:
    """The samples' embeddings with labels of one kind; with edited copies if no other is named."""
    ids, vectors = plain.stored.ids, plain.stored.vectors
    if label_field is not None:
        label_of = read_labels(samples, label_field)
        return label_by_names(vectors, [label_of.get(id_) for id_ in ids], f"{label_field!r}")
    if words is not None:
        return label_by_words(plain.clip, vectors, words)
    path_of = dict(zip(*samples.values(["id", "filepath"]), strict=True))
    return label_by_copies(plain.clip, vectors, [path_of[id_] for id_ in ids], told=told)
