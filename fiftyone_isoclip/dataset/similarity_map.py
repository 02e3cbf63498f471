"""Which map the images of an index are searched through, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo

from fiftyone_isoclip.dataset.centres import Centre, check_centre, map_from, read_centre
from fiftyone_isoclip.dataset.fields import Origin
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import EmbeddingMap

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset.model import IsoClipModel


def find_centre(dataset: fo.Dataset, config: Any) -> Centre | None:
    """The centre of an index's field, which must be that of the index's configuration, if any.

    Raises:
        DatasetError: it is another one.
    """
    field, known = config.embeddings_field, config.centre
    if field is None or config.patches_field is not None:
        return None
    centre = read_centre(dataset, field)
    if known is not None and (centre is None or centre.digest != known):
        raise DatasetError(
            f"the index was built with centre {known}, and field {field!r} has "
            f"{'no centre' if centre is None else centre} now; build it again"
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
        centre: of the field, if it has one.

    Raises:
        DatasetError: if other weights made them, or IsoCLIP of another band, or a centred band
            has no centre.
        VectorError: if the model makes no vectors of this dim.
    """
    check_centre(model.band, centre, field)
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
