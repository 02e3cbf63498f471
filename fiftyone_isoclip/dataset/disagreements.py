"""The pairs of samples on which plain CLIP and an IsoCLIP band disagree most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou

from fiftyone_isoclip.dataset.comparisons import Progress, in_band, open_plain
from fiftyone_isoclip.dataset.disagreement_reports import (
    DEFAULT_KEY,
    METHOD,
    DisagreementReport,
    disagreement_view,
    field_names,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import Column, check_free, save_run
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.evaluation.disagreements import COUNT, NEAR
from fiftyone_isoclip.evaluation.report import write_page
from fiftyone_isoclip.evaluation.space_pairs import SpacePairs, Spaces, pair_spaces
from fiftyone_isoclip.files.reports import check_report
from fiftyone_isoclip.index.agreement import pick_queries
from fiftyone_isoclip.projector import Band


@one_writer("key")
def compare_spaces(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    band: Band | str | None = None,
    count: int = COUNT,
    near: int = NEAR,
    queries: int | None = None,
    key: str = DEFAULT_KEY,
    report: str | Path | None = None,
    progress: Progress = None,
) -> DisagreementReport:
    """Find the pairs of samples that are near in plain CLIP and far in a band, and the reverse.

    What is compared is the rank of a sample among all neighbours of another one, since cosines of
    two spaces do not compare: a pair is among the nearest in one space, and the more disputed, the
    more times further down it stands in the other. Each pair comes once. Which space is right is
    for the eye to say.

    Writes ``<key>_place``, ``<key>_factor`` and ``<key>_nearer_in`` on the samples of the pairs, a
    saved view of them with the most disputed pair first and partners side by side, and a run, all
    named by the key; what an earlier search left under the same key is replaced.

    Args:
        samples: a dataset or view with plain embeddings.
        field: the stored embeddings.
        band: None for the checkpoint's own.
        count: how many pairs at most of those nearer in plain CLIP, and of those nearer in the
            band; 1 to 500.
        near: among how many nearest neighbours of a space a pair must be, 1 to 100.
        queries: how many samples to ask about, picked at random (always the same ones); their
            neighbours are found among all. None asks about all of up to 20,000 samples, and about
            2,000 of more.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        report: a file for a page with the pictures (HTML).
        progress: whether to show a bar, or a function called with it.

    Raises:
        DatasetError: there are no two samples with plain embeddings, or the key's fields belong to
            something else.
        BandError: the band cannot be read, or keeps nothing.
        IsoClipError: a number is out of its range, or the report cannot be written there.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    if report is not None:
        check_report(Path(report))
    plain = open_plain(samples, field)
    isoclip = in_band(plain, band)
    ids = plain.stored.ids
    if len(ids) < 2:
        raise DatasetError(
            f"two images with embeddings in field {field!r} are needed to compare spaces, found "
            f"{len(ids)} of {len(ids) + len(plain.stored.skipped)}; embed() them first"
        )
    rows = pick_queries(len(ids), queries)
    band_name, checkpoint = str(isoclip.band), plain.origin.checkpoint
    spaces = Spaces(checkpoint, band_name, plain.vectors, isoclip.vectors, ids)
    with fou.ProgressBar(total=len(rows), progress=progress, iters_str="queries") as bar:
        found = pair_spaces(spaces, rows, count=count, near=near, told=bar.update)
    told = DisagreementReport(dataset, key, field, len(plain.stored.skipped), found)
    asked = {"field": field, "count": count, "near": near, "queries": queries}
    run = told.run(isoclip.fingerprint, asked)
    save_run(samples, run, _columns(key, found), lambda: disagreement_view(dataset, key))
    if report is not None:
        members = {name for pair in found.pairs for name in (pair.query, pair.neighbor)}
        paths = dict(zip(*dataset.select(list(members)).values(["id", "filepath"]), strict=True))
        write_page(report, found.page(paths, dataset=dataset.name, field=field))
    return told


def _columns(key: str, found: SpacePairs) -> dict[str, Column]:
    """Of each sample's most disputed pair, which is the first that it is in."""
    places: dict[str, int] = {}
    factors: dict[str, float] = {}
    nearer_in: dict[str, str] = {}
    for pair, told in zip(found.pairs, found.to_json()["pairs"], strict=True):
        for name in (pair.query, pair.neighbor):
            if name not in places:
                places[name] = len(places)
                factors[name], nearer_in[name] = pair.factor, told["nearer_in"]
    names = field_names(key)
    return {
        names["place"]: Column(fo.IntField, places),
        names["factor"]: Column(fo.FloatField, factors),
        names["nearer_in"]: Column(fo.StringField, nearer_in),
    }
