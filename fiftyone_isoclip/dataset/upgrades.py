"""IsoCLIP from CLIP embeddings that a dataset already has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.checkpoints import clip_of
from fiftyone_isoclip.dataset.copies import refresh_copy
from fiftyone_isoclip.dataset.fields import (
    DEFAULT_INTO,
    Origin,
    claim_field,
    dataset_of,
    declare_field,
    need_origin,
    read_origin,
    write_origin,
)
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.sources import NO_EMBEDDING
from fiftyone_isoclip.dataset.targets import Fields, list_targets
from fiftyone_isoclip.dataset.vectors import FieldVectors, read_vectors
from fiftyone_isoclip.dataset.writing import Values, insist, write_all
from fiftyone_isoclip.encoder import Checkpoint, Clip, embed_images
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import Band

CHECKED_IMAGES = 8
"""How many images are embedded again to see whether a checkpoint made the vectors."""

LEAST_AGREEMENT = 0.99
"""The cosine an image must have to its stored vector: float16 storage and other decoders pass."""

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """How many vectors were upgraded, and how it was made sure that they fit the checkpoint.

    ``agreement`` is the lowest cosine of a stored vector to its image embedded again, over
    ``n_checked`` images; None if it was not checked. ``skipped`` maps samples to the reason.
    """

    into: str
    n_upgraded: int
    dim: int
    band: str
    n_checked: int
    agreement: float | None
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        checked = "unchecked"
        if self.agreement is not None:
            checked = f"{self.n_checked} checked, cosine at least {self.agreement:.4f}"
        return (
            f"{self.n_upgraded} vectors upgraded to {self.dim} numbers in field {self.into!r} "
            f"(band {self.band}; {checked}), {len(self.skipped)} skipped"
        )


@one_writer("field")
@one_writer("into")
def upgrade(
    samples: Any,
    field: str,
    checkpoint: str | Checkpoint | Clip,
    *,
    into: str = DEFAULT_INTO,
    band: Band | None = None,
    check: bool = True,
) -> UpgradeReport:
    """Make IsoCLIP embeddings of the CLIP embeddings a dataset already has, normalised or not.

    Writes compressed IsoCLIP vectors (k numbers, unit length) to ``into`` and records on
    ``field`` that it holds plain embeddings of the checkpoint, so that the other verbs work on it.
    A few images are embedded again to see that this checkpoint made the vectors; nothing else
    reads an image.

    Args:
        samples: a dataset or view; only its samples get vectors in ``into``.
        field: the vectors at hand; they stay as they are.
        checkpoint: what made them.
        into: where the IsoCLIP vectors go; only vectors of an earlier upgrade are replaced.
        band: None for the checkpoint's own; none that is centred.
        check: False takes your word for the checkpoint.

    Raises:
        DatasetError: the vectors do not fit the checkpoint, or that cannot be found out.
        CheckpointError: the checkpoint cannot be loaded.
    """
    dataset = dataset_of(samples)
    if band is not None and band.centred:
        raise DatasetError(
            f"upgrade() was asked for vectors of band {band}, which would not say what centre they "
            "are compared from; the plain embeddings serve centred bands with fit_centre()"
        )
    if into == field:
        raise DatasetError(f"into={into!r} is the field to read; name another one")
    _check_into(dataset, Fields.of(dataset, into, None).embedding)
    clip = clip_of(checkpoint)
    _check_origin(dataset, field, clip)
    stored = read_vectors(dataset, field, clip.dim)
    _check_dims(dataset, stored, clip)
    _check_usable(dataset, stored)
    agreements = _agreements(dataset, stored, clip) if check else []
    if stored.ids:
        if check:
            _check_agreement(field, agreements, clip)
        insist(dataset, lambda: _register(dataset, field, clip))
        if need_origin(dataset, field).folder is None:
            refresh_copy(dataset, field)
    chosen = clip.image_band if band is None else band
    origin = Origin.of(clip, chosen)
    insist(dataset, lambda: claim_field(samples, into, origin, overwrite=True))
    here = read_vectors(samples, field, clip.dim)
    _write(dataset, into, here, clip, chosen)
    return UpgradeReport(
        into=into,
        n_upgraded=len(here.ids),
        dim=clip.isoclip(chosen).dim,
        band=str(chosen),
        n_checked=len(agreements),
        agreement=min(agreements, default=None),
        skipped=here.skipped,
    )


def _check_into(dataset: fo.Dataset, into: str) -> None:
    origin = read_origin(dataset, into)
    if origin is not None and origin.band is not None:
        return
    held = str(origin) if origin else "vectors of unknown origin"
    if origin or (isinstance(dataset.get_field(into), fo.VectorField) and dataset.count(into)):
        raise DatasetError(
            f"the upgraded vectors were to go into field {into!r}, which holds {held}; name "
            "another one with into=..."
        )


def _check_origin(dataset: fo.Dataset, field: str, clip: Clip) -> None:
    origin = read_origin(dataset, field)
    if origin is not None and not origin.is_same(Origin.of(clip)):
        raise DatasetError(
            f"field {field!r} holds {origin} and was to be upgraded as {Origin.of(clip)}; "
            "pass the checkpoint that made it, and its plain embeddings"
        )


def _check_dims(dataset: fo.Dataset, stored: FieldVectors, clip: Clip) -> None:
    if stored.misfits:
        id_, reason = next(iter(stored.misfits.items()))
        raise DatasetError(
            f"{len(stored.misfits)} vectors in field {stored.field!r} of {dataset.name!r} do not "
            f"come from {clip.checkpoint.name} (first sample {id_}: {reason}); "
            "name the checkpoint that made them"
        )


def _check_usable(dataset: fo.Dataset, stored: FieldVectors) -> None:
    unusable = [reason for reason in stored.skipped.values() if reason != NO_EMBEDDING]
    if unusable and not stored.ids:
        raise DatasetError(
            f"none of the {len(unusable)} vectors in field {stored.field!r} of {dataset.name!r} "
            f"can be used ({unusable[0]}); embed the images anew with embed()"
        )


def _agreements(dataset: fo.Dataset, stored: FieldVectors, clip: Clip) -> list[float]:
    """The cosines of some stored vectors, spread over the dataset, to their images as they are."""
    paths = dict(zip(*dataset.values(["id", "filepath"]), strict=True))
    readable = [row for row, id_ in enumerate(stored.ids) if Path(paths[id_]).is_file()]
    chosen = readable[:: max(1, len(readable) // CHECKED_IMAGES)][:CHECKED_IMAGES]
    cosines: list[float] = []
    for batch in embed_images(clip, [paths[stored.ids[row]] for row in chosen]):
        kept = stored.vectors[[chosen[row] for row in batch.rows]]
        if len(kept):
            cosines += (unit_rows(kept) * unit_rows(batch.embeddings)).sum(axis=1).tolist()
    return cosines


def _check_agreement(field: str, agreements: list[float], clip: Clip) -> None:
    name = clip.checkpoint.name
    if not agreements:
        raise DatasetError(
            f"no image behind field {field!r} can be read, so it cannot be seen whether {name} "
            "made its vectors; bring the images back, or pass check=False if you are sure"
        )
    low = [cosine for cosine in agreements if cosine < LEAST_AGREEMENT]
    if low:
        raise DatasetError(
            f"{len(low)} of {len(agreements)} images embedded by {name} differ from their vectors "
            f"in field {field!r} (cosine {min(low):.3f}, {LEAST_AGREEMENT} is needed): another "
            "checkpoint made them, or the images have changed; name the right one or use embed()"
        )


def _register(dataset: fo.Dataset, field: str, clip: Clip) -> None:
    """Record that a field holds plain embeddings of the files as they are now."""
    fields = Fields(field)
    if read_origin(dataset, field) is not None and dataset.has_field(fields.source):
        return
    declare_field(dataset, fields.source, fo.StringField)
    declare_field(dataset, fields.error, fo.StringField)
    ids = set(dataset.exists(field).values("id"))
    targets = [target for target in list_targets(dataset, fields) if target.id in ids]
    sources = {target.id: target.source_now(clip.fingerprint) for target in targets}
    write_all(dataset, Values(fields.source, sources, fo.StringField))
    write_origin(dataset, field, Origin.of(clip))  # last, because it says that all of it is done


def _write(dataset: fo.Dataset, into: str, here: FieldVectors, clip: Clip, band: Band) -> None:
    """Store the upgraded vectors; a sample without a usable one loses what an earlier run made."""
    write_all(dataset, Values(into, dict.fromkeys(here.skipped), fo.VectorField))
    for start in range(0, len(here.ids), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        rows = clip.isoclip(band)(here.vectors[block])
        vectors = dict(zip(here.ids[block], rows, strict=True))
        write_all(dataset, Values(into, vectors, fo.VectorField))
