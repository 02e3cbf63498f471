"""A field of stored vectors and the band under which they are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.centres import Centre, check_centre, map_from, read_centre, seal
from fiftyone_isoclip.dataset.checkpoints import clip_for
from fiftyone_isoclip.dataset.fields import Origin, dataset_of, need_origin
from fiftyone_isoclip.dataset.targets import CHANGED, list_changed
from fiftyone_isoclip.dataset.vectors import FieldVectors, Float32s, read_vectors
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import Band


@dataclass(frozen=True, eq=False)
class Space:
    """A field of vectors and the band under which they are compared.

    ``centre`` is the field's, if it has one; only centred bands compare from it.

    Raises:
        DatasetError: the band is centred and there is no centre.
    """

    origin: Origin
    band: Band
    stored: FieldVectors
    centre: Centre | None = None

    def __post_init__(self) -> None:
        check_centre(self.band, self.centre, self.stored.field)

    @property
    def clip(self) -> Clip:
        """The model that made the vectors, loaded on first use."""
        return clip_for(self.origin)

    @property
    def fingerprint(self) -> str:
        """A hex digest of what similarities depend on beside the vectors and the band's counts."""
        return seal(self.origin, self.centre if self.band.centred else None)

    def isoclip(self, vectors: npt.ArrayLike) -> Float32s:
        """What is stored, or plain embeddings (n, r), as unit rows (n, k) to compare.

        Raises:
            VectorError: they have the dim of neither.
        """
        rows = np.atleast_2d(np.asarray(vectors))
        if self.origin.band is not None and rows.shape[1] == self.origin.dim:
            return unit_rows(rows)
        return map_from(self.clip, self.band, self.centre)(rows)

    @cached_property
    def vectors(self) -> Float32s:
        """The stored vectors as unit rows (n, k) to compare."""
        if not self.stored.ids:
            return np.empty((0, self.origin.dim), np.float32)
        return self.isoclip(self.stored.vectors)

    def without_changed(self, samples: Any) -> Space:
        """Leave out the samples whose file has changed since it was embedded."""
        changed = list_changed(samples, self.stored.field, self.origin.fingerprint)
        return replace(self, stored=self.stored.without(dict.fromkeys(changed, CHANGED)))


def open_space(
    samples: Any, field: str, band: Band | str | None, centre: Centre | None = None
) -> Space:
    """Read a field to compare images with images under a band (None: the checkpoint's own).

    A centred band compares from ``centre``, None being that of the field.

    Raises:
        BandError: a band given as text is not two counts such as ``150/50``.
        DatasetError: there is no such field, its checkpoint is unknown, it holds IsoCLIP
            embeddings of another band, or it has no centre for a centred one.
        CheckpointError: the checkpoint cannot be loaded.
    """
    band = Band.parse(band) if isinstance(band, str) else band
    dataset = dataset_of(samples)
    origin = need_origin(dataset, field)
    if origin.band is None:
        chosen = clip_for(origin).image_band if band is None else band
    else:
        chosen = Band.parse(origin.band)
        if band is not None and band != chosen:
            raise DatasetError(
                f"band {band} was asked for and field {field!r} holds IsoCLIP embeddings of band "
                f"{chosen}; use the field of plain embeddings, which serves every band"
            )
    centre = read_centre(dataset, field) if centre is None else centre
    check_centre(chosen, centre, field)
    return Space(origin, chosen, read_vectors(samples, field, origin.dim), centre)
