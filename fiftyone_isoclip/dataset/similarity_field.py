"""The field of a dataset that a similarity index is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import fiftyone.core.labels as fol
from bson import ObjectId
from fiftyone import ViewExpression

from fiftyone_isoclip.dataset.arrays import ArrayReader
from fiftyone_isoclip.dataset.fields import read_origin
from fiftyone_isoclip.dataset.indexed import Indexed
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index import Storage


def whole_collection(dataset: fo.Dataset) -> Any:
    """All samples of a dataset, those of every slice if it is grouped."""
    if dataset.media_type == "group":
        return dataset.select_group_slices(_allow_mixed=True)
    return dataset


def embedding_path(dataset: fo.Dataset, field: str, patches_field: str | None) -> str:
    """The full path of an embeddings field, which for patches is an attribute of the labels."""
    if patches_field is None:
        return field
    path: str = dataset._get_label_field_path(patches_field, field)[1]
    return path


def existing_ids(
    dataset: fo.Dataset, patches_field: str | None, among: Sequence[str] | None = None
) -> set[str]:
    """The ids of the samples, or of the labels of a patches field, that are there now.

    Args:
        dataset: where to look.
        patches_field: the field of the labels; None asks for samples.
        among: only look at these samples.
    """
    if patches_field is None and among is not None:
        # Asked after every search: without FiftyOne's pipelines it takes a tenth of the time.
        found = dataset._sample_collection.find(
            {"_id": {"$in": [*map(ObjectId, among)]}}, {"_id": 1}
        )
        return {str(sample["_id"]) for sample in found}
    samples = whole_collection(dataset)
    if among is not None:
        samples = samples.select(among)
    path = "id" if patches_field is None else embedding_path(dataset, "id", patches_field)
    return set(samples.values(path, unwind=True))


def read_field(
    dataset: fo.Dataset,
    field: str,
    patches_field: str | None,
    storage: Storage = "float32",
    among: Sequence[str] | None = None,
) -> Indexed:
    """The vectors of a field, in the dataset's order; samples without one are left out.

    Args:
        dataset: where the field is.
        field: what holds the vectors.
        patches_field: the field of the labels that have it; None reads it from samples.
        storage: how the rows are held.
        among: only read these samples.

    Raises:
        DatasetError: if the field holds something else than vectors, or keeps them in files.
        VectorError: if its vectors have different dims.
    """
    path = embedding_path(dataset, field, patches_field)
    kind = dataset.get_field(path)
    if kind is None and not (patches_field and dataset.has_field(patches_field)):
        return Indexed.empty(patches=patches_field is not None)
    if kind is not None and not isinstance(kind, (fo.VectorField, fo.ListField)):
        raise DatasetError(
            f"field {path!r} is a {type(kind).__name__}, a VectorField is needed; "
            "name the field that holds embeddings"
        )
    origin = read_origin(dataset, path)
    if origin is not None and origin.folder is not None:
        raise DatasetError(
            f"field {path!r} keeps its vectors in files, and an index reads them from the samples; "
            f"move them there with embed(dataset, {origin.checkpoint!r}, {path!r}, on_samples=True)"
        )
    samples = whole_collection(dataset)
    if among is not None:
        samples = samples.select(among)
    vector = fo.VectorField() if kind is None else None
    if patches_field is None:
        # An expression yields the stored bytes, which are read five times as fast.
        sample_ids, vectors = samples.values(["id", ViewExpression(f"${path}")])
        label_ids = None
    else:
        sample_ids, label_ids, vectors = _read_labels(samples, path, patches_field, vector)
    has = [row for row, value in enumerate(vectors) if value is not None]
    read = ArrayReader()
    return Indexed.of(
        [read(v) if isinstance(v := vectors[row], bytes) else v for row in has],
        [sample_ids[row] for row in has],
        None if label_ids is None else [label_ids[row] for row in has],
        storage,
    )


def _read_labels(
    samples: Any, path: str, patches_field: str, vector: fo.VectorField | None
) -> tuple[list[str], list[str], list[Any]]:
    kind, id_path = samples._get_label_field_path(patches_field, "id")
    sample_ids, label_ids = samples.values(["id", id_path])
    vectors = samples.values(path, _field=vector)
    if not issubclass(kind, fol._LABEL_LIST_FIELDS):
        has = [row for row, id_ in enumerate(label_ids) if id_ is not None]
        return ([column[row] for row in has] for column in (sample_ids, label_ids, vectors))  # type: ignore[return-value]
    rows = [
        (sample, label, vector)
        for sample, labels, found in zip(sample_ids, label_ids, vectors, strict=True)
        for label, vector in zip(labels or (), found or (), strict=True)
    ]
    return tuple(map(list, zip(*rows, strict=True))) if rows else ([], [], [])  # type: ignore[return-value]
