"""The fields this package writes: their names, their types, and which checkpoint made them.

The record of a field's checkpoint lies in the field's own ``info``: there it follows clones and
renames of the dataset and of the field, and goes away with the field.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone.core.view import DatasetView

from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import Band

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: a stored index is searched without

DEFAULT_FIELD = "clip_embedding"
"""The field of plain embeddings that the verbs write and read unless told otherwise."""

DEFAULT_INTO = "isoclip_embedding"
"""The field that ``upgrade`` writes IsoCLIP embeddings to unless told otherwise."""

_KEY = re.compile(r"[a-z][a-z0-9_]{0,99}")
_INFO = "isoclip"


@dataclass(frozen=True, slots=True)
class Origin:
    """What made the vectors of a field; ``band`` is None for plain embeddings.

    ``folder`` names the files that hold the vectors (`sidestore.named_folder`), and is None where
    the samples hold them.
    """

    checkpoint: str
    fingerprint: str
    dim: int
    band: str | None = None
    folder: str | None = None

    @classmethod
    def of(cls, clip: Clip, band: Band | None = None) -> Origin:
        """The origin of what a model gives: plain embeddings, or IsoCLIP ones of a band."""
        dim = clip.dim if band is None else clip.isoclip(band).dim
        return cls(clip.checkpoint.name, clip.fingerprint, dim, None if band is None else str(band))

    def is_same(self, other: Origin) -> bool:
        """Whether the vectors may lie in one field; a checkpoint can have several names."""
        return (self.fingerprint, self.band) == (other.fingerprint, other.band)

    def __str__(self) -> str:
        kind = "plain embeddings" if self.band is None else f"IsoCLIP embeddings (band {self.band})"
        return f"{kind} of {self.checkpoint} ({self.fingerprint[:12]})"


def check_key(key: str) -> str:
    """Refuse a name that could not be a run key, a field and a folder alike.

    Raises:
        DatasetError: unless it matches ``[a-z][a-z0-9_]*`` and has at most 100 characters.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise DatasetError(
            f"{key!r} cannot be the name of a field or run; use lower-case letters, digits and _, "
            "beginning with a letter, at most 100"
        )
    return key


def dataset_of(samples: Any) -> fo.Dataset:
    """The dataset behind a dataset or view of images.

    Raises:
        DatasetError: it is something else, was deleted, or its samples are not single images.
    """
    if not isinstance(samples, (fo.Dataset, DatasetView)):
        raise DatasetError(
            f"a FiftyOne dataset or view is needed, found {type(samples).__name__}; "
            'load one with fiftyone.load_dataset("name")'
        )
    dataset: fo.Dataset = samples if isinstance(samples, fo.Dataset) else samples._root_dataset
    check_alive(dataset)
    # The samples of a generated view (patches, frames, clips) are not the dataset's own.
    generated = isinstance(samples, DatasetView) and samples._is_generated
    if generated or samples.media_type not in ("image", None):
        raise DatasetError(
            f"IsoCLIP compares images, and this {type(samples).__name__} has media type "
            f"{samples.media_type!r}; samples that are single images are needed: a dataset or view "
            "of images, of a grouped dataset select_group_slices(...)"
        )
    return dataset


def check_alive(dataset: fo.Dataset) -> None:
    """Notice that a dataset was deleted, here or by another process.

    Raises:
        DatasetError: it is gone.
    """
    _read_document(dataset, "_id")


def stored_kind(dataset: fo.Dataset, path: str) -> str | None:
    """The type of a field as the database has it now, or None if there is no such field.

    Raises:
        DatasetError: the dataset is gone.
    """
    inside, kind = _read_document(dataset, "sample_fields")["sample_fields"], None
    for part in path.split("."):
        field = next((field for field in inside if field["name"] == part), None)
        if field is None:
            return None
        inside, kind = field.get("fields") or [], field["ftype"]
    return kind


def look_anew(dataset: fo.Dataset) -> None:
    """Learn what another process, or a step that failed, changed in a dataset.

    Raises:
        DatasetError: it is gone.
    """
    id_ = dataset._doc.id
    check_alive(dataset)
    dataset._doc.reload()  # first, because FiftyOne would look for it under an earlier name
    dataset.reload()
    if dataset._doc.id != id_:  # made again under the same name meanwhile
        raise _gone(dataset)


def _read_document(dataset: fo.Dataset, part: str) -> dict[str, Any]:
    # Writes to a deleted dataset succeed and change nothing, so nobody else would tell.
    if not dataset.deleted:
        key, datasets = {"_id": dataset._doc.id}, fo.core.odm.get_db_conn().datasets
        found: dict[str, Any] | None = datasets.find_one(key, {part: 1})
        if found is not None:
            return found
    raise _gone(dataset)


def _gone(dataset: fo.Dataset) -> DatasetError:
    return DatasetError(f"dataset {dataset.name!r} was deleted; load or create another one")


def declare_field(
    dataset: fo.Dataset, path: str, kind: type[fo.Field], of: type[fo.Field] | None = None
) -> None:
    """Make sure that a field exists and has this type; ``of`` is the type of a list's entries.

    Raises:
        DatasetError: it exists with another type, or FiftyOne refuses the name.
    """
    if not _is_declared(dataset, path, kind):
        check_key(path.rsplit(".", 1)[-1])
        from fiftyone_isoclip.dataset.locks import hold_record  # here, because it imports this

        with hold_record(dataset):
            if _is_declared(dataset, path, kind):
                return
            try:
                dataset.add_sample_field(path, kind, subfield=of)
            except ValueError as error:
                raise DatasetError(f"field {path!r} cannot be added: {error}") from error


def _is_declared(dataset: fo.Dataset, path: str, kind: type[fo.Field]) -> bool:
    field = dataset.get_field(path)
    if field is None or isinstance(field, kind):
        return field is not None
    raise DatasetError(
        f"field {path!r} is a {type(field).__name__}, a {kind.__name__} is needed; "
        "choose another name or delete that field"
    )


def read_origin(dataset: fo.Dataset, path: str) -> Origin | None:
    """What made the vectors of a field, or None if this package has no record of it."""
    field = dataset.get_field(path)
    info = (getattr(field, "info", None) or {}).get(_INFO)
    return None if info is None else Origin(**info)


def need_origin(dataset: fo.Dataset, path: str) -> Origin:
    """What made the vectors of a field.

    Raises:
        DatasetError: there is no such field, or nobody knows where its vectors come from.
    """
    origin = read_origin(dataset, path)
    if origin is not None:
        return origin
    if not dataset.has_field(path):
        raise DatasetError(
            f"dataset {dataset.name!r} has no field {path!r}; "
            f"compute it with embed(dataset, checkpoint, field={path!r})"
        )
    raise DatasetError(
        f"field {path!r} does not say which checkpoint made it; if you know, "
        f"register it with upgrade(dataset, {path!r}, checkpoint), otherwise use embed()"
    )


def write_origin(dataset: fo.Dataset, path: str, origin: Origin) -> None:
    """Record on a field what makes its vectors."""
    write_info(dataset, path, _INFO, asdict(origin))


def write_info(dataset: fo.Dataset, path: str, name: str, told: dict[str, Any]) -> None:
    """Keep something on a field, beside what is kept there already."""
    from fiftyone_isoclip.dataset.locks import hold_record

    with hold_record(dataset):
        look_anew(dataset)  # after a rename FiftyOne would look for the field under its old name
        field = dataset.get_field(path)
        field.info = {**(field.info or {}), name: told}
        field.save()


def claim_field(samples: Any, path: str, origin: Origin, *, overwrite: bool) -> None:
    """Make a vector field ready for vectors of one origin, never mixing two in one field.

    With ``overwrite`` vectors of another origin are cleared, provided that all of them belong to
    ``samples``.

    Raises:
        DatasetError: the field has another type, or holds vectors of another origin.
    """
    dataset = dataset_of(samples)
    declare_field(dataset, path, fo.VectorField)
    found = read_origin(dataset, path)
    if found is not None and found.is_same(origin):
        return
    # Where the vectors lie in files, their sources lie on the samples.
    holder = path if found is None or found.folder is None else f"{path}_source"
    n_vectors = dataset.count(holder)
    if n_vectors:
        was = "vectors of unknown origin" if found is None else str(found)
        asked = f"{origin} were to go into field {path!r}, which holds {n_vectors} {was}"
        if not overwrite:
            register = "" if found or origin.band else ", register them with upgrade()"
            raise DatasetError(f"{asked}; choose another field{register} or pass overwrite=True")
        if samples.count(holder) < n_vectors:
            raise DatasetError(
                f"{asked}, {n_vectors - samples.count(holder)} of them outside this view; "
                "choose another field or overwrite the whole dataset"
            )
        dataset.clear_sample_field(holder)
    write_origin(dataset, path, origin)
