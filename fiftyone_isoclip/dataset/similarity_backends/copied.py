"""What the tables of an index are a copy of, and what happened to that since."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.similarity_field import embedding_path, whole_collection
from fiftyone_isoclip.dataset.sources import held_by, sum_sources
from fiftyone_isoclip.dataset.staleness import Staleness, version_of

_REMEMBERED = 64


def look_at_field(dataset: fo.Dataset, field: str, patches_field: str | None) -> dict[str, Any]:
    """How many samples there are, how many vectors in a field, and checksums of their sources.

    The database works them out, once for each change of the dataset.
    """
    samples, vectors, sources = _look(dataset.name, field, patches_field, version_of(dataset))
    return {"samples": samples, "vectors": vectors, "sources": list(sources)}


def find_changed(
    dataset: fo.Dataset, field: str, patches_field: str | None, copied: Mapping[str, Any]
) -> Staleness:
    """Compare a field with what `look_at_field` said of it when the tables were filled.

    Vectors without a known source, or written by something else than `embed`, are not seen.
    """
    now = look_at_field(dataset, field, patches_field)
    came = now["samples"] - copied["samples"]
    differ = sum(one != other for one, other in zip(copied["sources"], now["sources"], strict=True))
    # A sample that came or went with a vector also makes a sum another one.
    told = min(abs(came), abs(now["vectors"] - copied["vectors"]))
    return Staleness(max(0, came), max(0, -came), max(0, differ - told))


@lru_cache(maxsize=_REMEMBERED)
def _look(
    name: str, field: str, patches_field: str | None, version: tuple[Any, ...]
) -> tuple[int, int, tuple[int, ...]]:
    dataset = fo.load_dataset(name)
    samples = whole_collection(dataset)
    path = embedding_path(dataset, field, patches_field)
    if not dataset.has_field(path):
        return samples.count(), 0, (0,) * 256
    vectors = samples.count(held_by(dataset, path))
    labels = None if patches_field is None else path.removesuffix(f".{field}")
    return samples.count(), vectors, tuple(sum_sources(samples, field, labels))
