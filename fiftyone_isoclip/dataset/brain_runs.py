"""The indexes and maps of a dataset, which FiftyOne's Brain keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import fiftyone as fo
from fiftyone.core.brain import BrainMethod

from fiftyone_isoclip.dataset.fields import Origin, dataset_of, read_origin
from fiftyone_isoclip.dataset.similarity import FaissSimilarityConfig
from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig
from fiftyone_isoclip.dataset.similarity_field import embedding_path
from fiftyone_isoclip.errors import DatasetError

BrainKind = Literal["index", "map"]


@dataclass(frozen=True, slots=True)
class BrainRun:
    """One index of this package, or one map; a map does not say what it was made from.

    ``backend`` is what answers an index: "faiss", or the database that holds its vectors; what
    these are a copy of is ``copied``. One that is not ``complete`` is being built, or its building
    was killed.
    """

    key: str
    kind: BrainKind
    time: datetime | None
    complete: bool = True
    field: str | None = None
    checkpoint: str | None = None
    band: str | None = None
    backend: str | None = None
    patches_field: str | None = None
    copied: Mapping[str, Any] | None = None
    fingerprint: str | None = None

    @property
    def what(self) -> str:
        """What it is, in words: ``map``, ``index``, ``index in lancedb``."""
        return f"{self.kind} in {self.backend}" if self.in_database else self.kind

    @property
    def in_database(self) -> bool:
        """Whether it is an index whose vectors lie in tables of a database."""
        return self.backend not in (None, "faiss")


def list_brain_runs(dataset: fo.Dataset) -> list[BrainRun]:
    """The similarity indexes of this package and all maps on a dataset, the latest first.

    FiftyOne keeps nothing on a map that tells who made it.
    """
    found = []
    for key in dataset_of(dataset).list_brain_runs(type="similarity"):
        info = dataset.get_brain_info(key)
        config = info.config
        if isinstance(config, (FaissSimilarityConfig, TableConfig)):
            made = (config.embeddings_field, config.checkpoint, config.band, config.method)
            of = (config.patches_field, getattr(config, "copied", None), config.fingerprint)
            whole = is_built(dataset, key)
            found.append(BrainRun(key, "index", info.timestamp, whole, *made, *of))
    for key in dataset.list_brain_runs(type="visualization"):
        found.append(BrainRun(key, "map", dataset.get_brain_info(key).timestamp))
    return sorted(found, key=lambda run: run.time or datetime.min, reverse=True)


def is_built(dataset: fo.Dataset, key: str) -> bool:
    """Whether a brain run has results: it is not being built, and its building was not killed."""
    return dataset.has_brain_run(key) and bool(BrainMethod._get_run_doc(dataset, key).results)


def need_index(dataset: fo.Dataset, key: str) -> BrainRun:
    """A similarity index of this package that is built.

    Raises:
        DatasetError: there is none of this key.
    """
    found = {run.key: run for run in list_brain_runs(dataset) if run.kind == "index"}
    if key in found and found[key].complete:
        return found[key]
    there = ", ".join(name for name, run in found.items() if run.complete) or "none"
    raise DatasetError(
        f"dataset {dataset.name!r} has no index {key!r} that is built; its indexes: {there}"
    )


def is_index(dataset: fo.Dataset, key: str) -> bool:
    """Whether a brain run is a similarity index of this package."""
    return any(run.key == key and run.kind == "index" for run in list_brain_runs(dataset))


def find_other_origin(dataset: fo.Dataset, index: BrainRun) -> Origin | None:
    """What made the vectors of an index's field, if it was with other weights than the index's.

    Such an index neither answers nor can be brought up to date; it has to be built again.
    """
    if index.field is None or index.fingerprint is None:
        return None
    origin = read_origin(dataset, embedding_path(dataset, index.field, index.patches_field))
    return origin if origin is not None and origin.fingerprint != index.fingerprint else None


def delete_brain_run(dataset: fo.Dataset, key: str) -> None:
    """Delete an index or a map, and the tables of an index in a database.

    Raises:
        DatasetError: the tables cannot be deleted; the run stays.
    """
    config = dataset.get_brain_info(key).config
    if isinstance(config, TableConfig):
        try:
            config.build().cleanup(dataset, key)  # FiftyOne would log the error and go on
        except DatasetError as error:
            raise DatasetError(
                f"{error}; dataset.delete_brain_run({key!r}) deletes the run without them"
            ) from error
    dataset.delete_brain_run(key)
