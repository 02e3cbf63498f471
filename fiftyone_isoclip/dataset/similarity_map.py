"""Which map the images of an index are searched through, if any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import fiftyone as fo

from fiftyone_isoclip.dataset.centres import Centre, check_centre, map_from, read_centre
from fiftyone_isoclip.dataset.fields import Origin, need_origin
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import Band, EmbeddingMap

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset.model import IsoClipModel


def find_centre(
    dataset: fo.Dataset,
    band: Band,
    field: str | None,
    patches_field: str | None,
    known: str | None = None,
) -> Centre | None:
    """The centre that an index compares from; None unless its band is centred.

    Args:
        dataset: where the field is.
        band: of the index.
        field: of its vectors, None if they are kept with the run.
        patches_field: of its boxes, if it is of boxes.
        known: the digest of the centre that it was built with.

    Raises:
        DatasetError: there is no centre, or it is another one.
    """
    if not band.centred:
        return None
    if field is None or patches_field is not None:
        found = "vectors that lie in no field" if field is None else f"boxes in {patches_field!r}"
        raise DatasetError(
            f"band {band} was asked for on {found}, and centres are of whole images in a field; "
            f"use band {replace(band, centred=False)}"
        )
    need_origin(dataset, field)
    centre = read_centre(dataset, field)
    check_centre(band, centre, field)
    if centre is not None and known not in (None, centre.digest):
        raise DatasetError(
            f"the index was built with centre {known}, and field {field!r} has {centre} now; "
            "build it again"
        )
    return centre


def choose_map(
    model: IsoClipModel,
    dim: int,
    origin: Origin | None,
    field: str | None,
    centre: Centre | None = None,
) -> EmbeddingMap | None:
    """The model's map if the vectors are plain embeddings, None if they are IsoCLIP's already.

    Args:
        model: what the index is to be searched with.
        dim: of the vectors.
        origin: what made them, if their field tells; without it their dim decides.
        field: where they are, for the errors.
        centre: what a centred band compares from.

    Raises:
        DatasetError: if other weights made them, or IsoCLIP of another band.
        VectorError: if the model makes no vectors of this dim.
    """
    found, searches_plain = map_from(model.clip, model.band, centre), model.config.plain
    if origin is not None and origin.fingerprint != model.clip.fingerprint:
        raise DatasetError(
            f"field {field!r} holds {origin}, and the index is to be searched with "
            f"{model.clip.checkpoint.name} ({model.clip.fingerprint[:12]}); "
            "build it with the checkpoint that made the field, or embed again"
        )
    if origin is not None and origin.band not in (None, str(model.band)):
        raise DatasetError(
            f"field {field!r} holds {origin}, and the model has band {model.band}; "
            "use a field of plain embeddings, which serves every band"
        )
    is_plain = dim != found.dim if origin is None else origin.band is None
    if dim != (found.plain_dim if is_plain or searches_plain else found.dim):
        raise VectorError(
            f"vectors of dim {dim} were given to an index of {model.clip.checkpoint.name}, "
            f"which makes plain embeddings of dim {found.plain_dim} and IsoCLIP embeddings of "
            f"dim {found.dim} (band {found.band}); embed with this checkpoint"
        )
    return found if is_plain and not searches_plain else None
