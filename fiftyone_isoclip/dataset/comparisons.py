"""Plain CLIP and an IsoCLIP band compared on samples: whose neighbours, and with which labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou
import numpy as np

from fiftyone_isoclip.dataset.comparison_reports import (
    DEFAULT_KEY,
    DEFAULT_NEIGHBORS,
    METHOD,
    ComparisonReport,
    LabelPrecision,
    comparison_view,
    overlap_field,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of, need_origin
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import Column, check_free, save_run
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index.agreement import (
    centred,
    label_shares,
    neighbors_of_rows,
    overlaps,
    pick_queries,
)
from fiftyone_isoclip.index.vectors import Rows
from fiftyone_isoclip.projector import WHOLE, Band

Progress = bool | Callable[[Any], None] | None
"""As in FiftyOne: show a bar or not, its own setting (None), or a function called with the bar."""


@one_writer("key")
def compare_with_clip(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    band: Band | str | None = None,
    k: int = DEFAULT_NEIGHBORS,
    label_field: str | None = None,
    queries: int | None = None,
    key: str = DEFAULT_KEY,
    progress: Progress = None,
) -> ComparisonReport:
    """Compare the nearest neighbours of samples in plain CLIP and in an IsoCLIP band, exactly.

    Writes ``<key>_overlap`` on the queries (the share of the k neighbours that both spaces have in
    common), a saved view of them with the least in common first, and a run, all named by the key;
    what an earlier comparison left under the same key is replaced.

    Args:
        samples: a dataset or view with plain embeddings.
        field: the stored embeddings.
        band: None for the checkpoint's own.
        k: how many neighbours to compare, at least 1; fewer where there are fewer samples.
        label_field: a field of Classifications or text; the neighbours that have their query's own
            label are counted in each space. A neighbour without a label counts as another.
        queries: how many samples to ask about, picked at random (always the same ones), at least
            1; neighbours are found among all. None asks about all of up to 20,000 samples, and
            about 2,000 of more.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        progress: whether to show a bar, or a function called with it.

    Raises:
        DatasetError: there are no two samples with plain embeddings, no such labels, or the key's
            fields belong to something else.
        BandError: the band cannot be read, or keeps nothing.
        VectorError: less than one query was asked for.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, (overlap_field(key),))
    asked = {"field": field, "k": k, "label_field": label_field, "queries": queries}
    if k < 1:
        raise DatasetError(f"{k} neighbours were asked for; ask for at least 1")
    labels = None if label_field is None else read_labels(samples, label_field)
    plain = open_plain(samples, field)
    isoclip = in_band(plain, band)
    ids = plain.stored.ids
    if len(ids) < 2:
        raise DatasetError(
            f"two images with embeddings in field {field!r} are needed to compare neighbours, "
            f"found {len(ids)} of {len(ids) + len(plain.stored.skipped)}; embed() them first"
        )
    rows, k = pick_queries(len(ids), queries), min(k, len(ids) - 1)
    total = len(rows) * (2 if labels is None else 3)
    with fou.ProgressBar(total=total, progress=progress, iters_str="queries") as bar:
        in_isoclip = neighbors_of_rows(isoclip.vectors, rows, k, bar.update).rows
        in_plain = neighbors_of_rows(plain.vectors, rows, k, bar.update).rows
        precision = None
        if label_field is not None and labels is not None:
            in_centred = neighbors_of_rows(centred(plain.vectors), rows, k, bar.update).rows
            known = [labels.get(id_) for id_ in ids]
            precision = _precision(label_field, known, rows, (in_isoclip, in_plain, in_centred))
    shared = overlaps(in_isoclip, in_plain)
    report = ComparisonReport(
        dataset=dataset,
        key=key,
        field=field,
        checkpoint=plain.origin.checkpoint,
        band=str(isoclip.band),
        k=k,
        n_compared=len(ids),
        n_skipped=len(plain.stored.skipped),
        queries=len(rows),
        overlap=float(shared.mean()),
        precision=precision,
    )
    values = dict(zip([ids[row] for row in rows], shared.tolist(), strict=True))
    columns = {overlap_field(key): Column(fo.FloatField, values)}
    run = report.run(isoclip.fingerprint, asked)
    save_run(samples, run, columns, lambda: comparison_view(dataset, key))
    return report


def open_plain(samples: Any, field: str) -> Space:
    """Read a field of plain embeddings as the space of plain CLIP, less the changed files.

    Raises:
        DatasetError: there is no such field, or it holds the embeddings of a band.
        CheckpointError: the checkpoint cannot be loaded.
    """
    origin = need_origin(dataset_of(samples), field)
    if origin.band is not None:
        raise DatasetError(
            f"plain CLIP and a band were to be compared and field {field!r} holds {origin}; "
            "use a field of plain embeddings, which serves every band"
        )
    return open_space(samples, field, WHOLE).without_changed(samples)


def in_band(plain: Space, band: Band | str | None) -> Space:
    """The same plain embeddings under a band; None is the checkpoint's own.

    Raises:
        BandError: it cannot be read, or keeps nothing.
        DatasetError: it is centred, and the field has no centre.
    """
    chosen = Band.parse(band) if isinstance(band, str) else band
    chosen = plain.clip.image_band if chosen is None else chosen
    chosen.count(plain.clip.spectrum.rank)
    return replace(plain, band=chosen)


def nearest_samples(space: Space, sample: str, k: int) -> list[tuple[str, float]]:
    """The k samples most similar to one of the space, itself left out, and their cosines to it.

    Raises:
        DatasetError: the sample has no vector in this space.
    """
    row = space.stored.row_of.get(sample)
    if row is None:
        reason = space.stored.skipped.get(sample, "it was not there when the space was read")
        raise DatasetError(f"sample {sample} cannot be compared: {reason}")
    count = min(k, len(space.stored.ids) - 1)
    if count < 1:
        return []
    found = neighbors_of_rows(space.vectors, np.array([row]), count)
    ids = [space.stored.ids[near] for near in found.rows[0]]
    return list(zip(ids, found.similarities[0].tolist(), strict=True))


def read_labels(samples: Any, label_field: str) -> Mapping[str, str | None]:
    """The label of each sample, by its id, from a field of Classifications or text.

    Raises:
        DatasetError: there is no such field, or it is of another kind.
    """
    dataset = dataset_of(samples)
    found = dataset.get_field(label_field)
    if getattr(found, "document_type", None) is fo.Classification:
        path = f"{label_field}.label"
    elif isinstance(found, fo.StringField):
        path = label_field
    else:
        was = "no such field" if found is None else f"a {type(found).__name__}"
        raise DatasetError(
            f"label_field={label_field!r} must name a field of Classifications or text of "
            f"{dataset.name!r}, found {was}"
        )
    return dict(zip(*samples.values(["id", path]), strict=True))


def _precision(
    label_field: str, labels: list[str | None], rows: Rows, found: tuple[Rows, Rows, Rows]
) -> LabelPrecision:
    """Count the neighbours with their query's label in IsoCLIP, plain and centred plain CLIP."""
    labelled = np.array([labels[row] is not None for row in rows])
    if not labelled.any():
        raise DatasetError(
            f"none of the {len(rows)} queries has a label in {label_field!r}; label some samples "
            "or compare without label_field"
        )
    shares = [label_shares(labels, rows[labelled], near[labelled]) for near in found]
    isoclip, plain, middle = (float(share.mean()) for share in shares)
    difference = shares[0] - shares[1 if plain >= middle else 2]
    n = len(difference)
    error = float(difference.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return LabelPrecision(label_field, n, isoclip, plain, middle, error)
