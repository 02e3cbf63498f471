"""The centre that centred bands compare from: fitted once, kept with a field, moved by nobody.

It lies in the field's ``info`` beside the origin of its vectors: there it follows clones and
renames of the dataset and of the field, and goes away with the field.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.core.utils as fou
import numpy as np

from fiftyone_isoclip.dataset.fields import (
    DEFAULT_FIELD,
    Origin,
    dataset_of,
    need_origin,
    read_origin,
    write_info,
)
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.targets import CHANGED, list_changed
from fiftyone_isoclip.dataset.vectors import read_vectors
from fiftyone_isoclip.dataset.writing import insist
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index.vectors import Float32s, Float64s, row_blocks, unit_block
from fiftyone_isoclip.projector import Band, EmbeddingMap

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: a form reads centres without

_INFO = "isoclip_centre"
_ALIKE = 1e-9


@dataclass(frozen=True, eq=False)
class Centre:
    """The mean (r,) of ``n`` plain embeddings at length 1, made by the weights ``fingerprint``."""

    numbers: Float64s
    n: int
    fingerprint: str

    @property
    def digest(self) -> str:
        """Sixteen hex digits, the same for the same numbers."""
        return hashlib.sha256(self.numbers.astype("<f8").tobytes()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"centre {self.digest} of {self.n} images"


@one_writer("field")
def fit_centre(samples: Any, field: str = DEFAULT_FIELD, *, overwrite: bool = False) -> Centre:
    """Fit the centre that centred bands such as ``"150/50-centred"`` compare from, and store it.

    It is the mean of the plain embeddings at length 1, and stays what it is: samples that come,
    go or are embedded anew do not move it, so that similarities stay what they were. It belongs to
    these weights; embeddings of other ones need another.

    Args:
        samples: a dataset or view with embeddings; those of a view alone are averaged.
        field: the stored plain embeddings; the centre serves all of the field.
        overwrite: put another centre in the place of one. Runs made with the old one are stale
            then, and indexes made with it have to be built again.

    Raises:
        DatasetError: there is a centre already, there are no such embeddings, they are those of a
            band, or they all look the same.
    """
    dataset = dataset_of(samples)
    origin = check_fit(dataset, field, overwrite)
    stored = read_vectors(samples, field, origin.dim)
    changed = list_changed(samples, field, origin.fingerprint)
    stored = stored.without(dict.fromkeys(changed, CHANGED))
    centre = Centre(_mean(stored.vectors, field), len(stored.ids), origin.fingerprint)
    insist(dataset, lambda: write_info(dataset, field, _INFO, _told(centre)))
    return centre


def check_fit(dataset: fo.Dataset, field: str, overwrite: bool) -> Origin:
    """Make sure that a centre can be fitted on a field; -> what made its vectors.

    Raises:
        DatasetError: there are no plain embeddings, or there is a centre and it may not go.
    """
    origin = need_origin(dataset, field)
    if origin.band is not None:
        raise DatasetError(
            f"a centre was to be fitted on field {field!r}, which holds {origin}; "
            "use the field of plain embeddings, which serves every band"
        )
    there = read_centre(dataset, field)
    if there is not None and not overwrite:
        raise DatasetError(
            f"field {field!r} of {dataset.name!r} has a {there} already, and what was compared "
            "from it would not hold from another one; use it, or pass overwrite=True and make runs "
            "and indexes of centred bands again"
        )
    return origin


def read_centre(dataset: fo.Dataset, field: str) -> Centre | None:
    """The centre of a field, or None if there is none of the weights that made its vectors."""
    found = dataset.get_field(field)
    told, origin = (getattr(found, "info", None) or {}).get(_INFO), read_origin(dataset, field)
    if told is None or origin is None or told["fingerprint"] != origin.fingerprint:
        return None
    numbers = fou.deserialize_numpy_array(told["numbers"], ascii=True)
    return Centre(numbers, told["n"], told["fingerprint"])


def check_centre(band: Band, centre: Centre | None, field: str | None) -> None:
    """Make sure that a centred band has a centre to compare from.

    Raises:
        DatasetError: it has none.
    """
    if band.centred and centre is None:
        raise DatasetError(
            f"band {band} compares from a centre, and field {field!r} has none of the weights that "
            f"made its vectors; fit one with fit_centre(dataset, {field!r}), or use band "
            f"{replace(band, centred=False)}"
        )


def map_from(clip: Clip, band: Band, centre: Centre | None) -> EmbeddingMap:
    """The map of a band on plain image embeddings, from the centre if the band is centred.

    Raises:
        BandError: the band keeps nothing, or is centred and there is no centre.
    """
    if not band.centred or centre is None:
        return clip.isoclip(band)
    return clip.isoclip(replace(band, centred=False)).centred_on(centre.numbers)


def seal(origin: Origin, centre: Centre | None) -> str:
    """A hex digest of what similarities depend on: the weights and, if there is one, the centre."""
    if centre is None:
        return origin.fingerprint
    return hashlib.sha256(f"{origin.fingerprint} {centre.digest}".encode()).hexdigest()


def _mean(vectors: Float32s, field: str) -> Float64s:
    total = np.zeros(vectors.shape[1])
    for block in row_blocks(*vectors.shape):
        total += unit_block(vectors, block).sum(axis=0)
    mean = total / max(1, len(vectors))
    if not len(vectors) or np.linalg.norm(mean) > 1 - _ALIKE:
        found = f"{len(vectors)} embeddings, all alike" if len(vectors) else "no embeddings"
        raise DatasetError(
            f"a centre needs different embeddings to lie between, and field {field!r} holds "
            f"{found}; embed() more images, or choose a larger view"
        )
    return np.asarray(mean)


def _told(centre: Centre) -> dict[str, Any]:
    numbers = fou.serialize_numpy_array(centre.numbers, ascii=True)
    return {"numbers": numbers, "n": centre.n, "fingerprint": centre.fingerprint}
