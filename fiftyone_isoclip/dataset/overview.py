"""The embedding fields of a dataset: what made them, and how many samples have them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.fields import Origin, dataset_of, read_origin
from fiftyone_isoclip.dataset.sources import Held, count_held
from fiftyone_isoclip.dataset.staleness import version_of

_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class FieldOverview:
    """One field of embeddings of whole images."""

    name: str
    origin: Origin
    held: Held


def list_fields(dataset: fo.Dataset) -> list[FieldOverview]:
    """The fields of embeddings that say what made them; counted anew when the dataset changes."""
    version = version_of(dataset_of(dataset))
    fields = dataset.get_field_schema(ftype=fo.VectorField)
    origins = {name: read_origin(dataset, name) for name in fields}
    return [
        FieldOverview(name, origin, _count(dataset.name, name, version))
        for name, origin in origins.items()
        if origin is not None
    ]


@lru_cache(maxsize=_REMEMBERED)
def _count(dataset_name: str, field: str, version: tuple[Any, ...]) -> Held:
    return count_held(fo.load_dataset(dataset_name), field)
