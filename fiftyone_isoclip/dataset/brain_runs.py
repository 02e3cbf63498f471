"""The indexes and maps of a dataset, which FiftyOne's Brain keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import fiftyone as fo

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.similarity import FaissSimilarityConfig

BrainKind = Literal["index", "map"]


@dataclass(frozen=True, slots=True)
class BrainRun:
    """One index of this package, or one map; a map does not say what it was made from."""

    key: str
    kind: BrainKind
    time: datetime | None
    field: str | None = None
    checkpoint: str | None = None
    band: str | None = None


def list_brain_runs(dataset: fo.Dataset) -> list[BrainRun]:
    """The similarity indexes of this package and all maps on a dataset, the latest first.

    FiftyOne keeps nothing on a map that tells who made it.
    """
    found = []
    for key in dataset_of(dataset).list_brain_runs(type="similarity"):
        info = dataset.get_brain_info(key)
        config = info.config
        if isinstance(config, FaissSimilarityConfig):
            made = (config.embeddings_field, config.checkpoint, config.band)
            found.append(BrainRun(key, "index", info.timestamp, *made))
    for key in dataset.list_brain_runs(type="visualization"):
        found.append(BrainRun(key, "map", dataset.get_brain_info(key).timestamp))
    return sorted(found, key=lambda run: run.time or datetime.min, reverse=True)


def is_index(dataset: fo.Dataset, key: str) -> bool:
    """Whether a brain run is a similarity index of this package."""
    return any(run.key == key and run.kind == "index" for run in list_brain_runs(dataset))
