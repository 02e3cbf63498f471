"""What each similarity means for the samples at hand, measured and kept as a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import Column, SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import open_space
from fiftyone_isoclip.dataset.threshold_reports import (
    DEFAULT_KEY,
    METHOD,
    ThresholdReport,
    guide_view,
    recall_field,
)
from fiftyone_isoclip.evaluation.report import write_page
from fiftyone_isoclip.evaluation.threshold_page import guide_page
from fiftyone_isoclip.files.copies import Contents
from fiftyone_isoclip.files.edit_recall import DEFAULT_PICTURES, measure_edits
from fiftyone_isoclip.files.reports import check_report
from fiftyone_isoclip.files.threshold_guide import ThresholdGuide, check_guide, make_guide
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.index.false_matches import false_match_rates
from fiftyone_isoclip.projector import Band

_DIGITS = 7

Progress = Callable[[int, int], Any]
"""Called with how much is done and in all: first of the pairs, then of the pictures edited."""


@one_writer("key")
def guide_threshold(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    band: Band | str | None = None,
    false_matches: float | None = None,
    pictures: int = DEFAULT_PICTURES,
    key: str = DEFAULT_KEY,
    report: str | Path | None = None,
    progress: Progress | None = None,
) -> ThresholdReport:
    """Measure from which similarity on false matches are rare, and which edits are recognised.

    False matches are counted among the samples' own pairs; pictures of theirs are edited in
    memory and compared with what they were. Writes ``<key>_recall`` on the pictures that were
    edited (the share of their edited copies at or above the suggested similarity, the default one
    if none is), a saved view of them, the least recognised first, and a run, all named by the key;
    what an earlier guide left under the same key is replaced.

    Args:
        samples: a dataset or view with embeddings.
        field: the stored embeddings.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP.
        false_matches: the share of all pairs of different files that may match by chance, 1 in
            10,000 if None. Near-copies count among them: a view without any shows the true rate.
        pictures: how many pictures to edit, drawn at random, always the same; 0 for none.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        report: where to write the guide as one HTML file, if anywhere.
        progress: called with how far it is; what it raises ends the work.

    Raises:
        DatasetError: there are no such embeddings, or the key's fields belong to something else.
        VectorError: there are no two different images, or the rate is no share.
        IsoClipError: the report cannot be written.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, (recall_field(key),))
    allowed = check_guide(false_matches, pictures)
    if report is not None:
        check_report(Path(report))
    space = open_space(samples, field, band).without_changed(samples)
    ids, path_of = space.stored.ids, dict(zip(*samples.values(["id", "filepath"]), strict=True))
    firsts = Contents.of([path_of[id_] for id_ in ids]).first_rows
    paths = [path_of[ids[row]] for row in firsts]
    rates = false_match_rates(space.vectors[firsts], told=progress)
    edits = measure_edits(paths, space.clip, space.isoclip, pictures=pictures, progress=progress)
    model, of = space.origin.checkpoint, str(space.band)
    guide = make_guide(rates, edits, model=model, band=of, false_matches=allowed)
    asked = {
        "field": field,
        "band": None if band is None else str(band),
        "false_matches": false_matches,
        "pictures": pictures,
    }
    run = _run(key, guide, asked, space.fingerprint, len(space.stored.skipped))
    edited = [ids[firsts[row]] for row in edits.rows.tolist()]
    least = DEFAULT_SIMILARITY if guide.suggested is None else guide.suggested
    values = dict(zip(edited, edits.by_picture(least).tolist(), strict=True))
    columns = {recall_field(key): Column(fo.FloatField, values)}
    save_run(samples, run, columns, lambda: guide_view(dataset, key))
    if report is not None:
        write_page(report, guide_page(guide, f"dataset {dataset.name!r}"))
    return ThresholdReport(dataset, key, guide, dict(space.stored.skipped))


def _run(
    key: str, guide: ThresholdGuide, asked: dict[str, Any], fingerprint: str, skipped: int
) -> SavedRun:
    """What to remember of a guide."""
    return SavedRun(
        key=key,
        method=METHOD,
        parameters=asked,
        checkpoint=guide.model,
        fingerprint=fingerprint,
        band=guide.band,
        counts={
            "compared": guide.rates.n,
            "skipped": skipped,
            "edited": len(guide.edits.rows),
        },
        details={
            "suggested": guide.suggested,
            "verdict": guide.verdict,
            "n_pairs": guide.rates.pairs,
            "rows": [_rounded(asdict(row)) for row in guide.rows],
        },
    )


def _rounded(value: Any) -> Any:
    """Numbers of a few digits: a run holds kilobytes."""
    if isinstance(value, dict):
        return {name: _rounded(held) for name, held in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value
