"""Which samples have a vector in a field, what it was made from, and why others have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.fields import read_origin

NO_EMBEDDING = "it has no embedding yet"


UNKNOWN = ""
"""The source of a vector of which nobody noted one."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Samples (n), what the vector of each was made from (None: it has none), and the failures."""

    ids: list[str]
    sources: list[str | None]
    errors: dict[str, str]

    @property
    def held(self) -> npt.NDArray[np.bool_]:
        """Which samples have a vector: (n,)."""
        return np.array([source is not None for source in self.sources], np.bool_)

    @property
    def skipped(self) -> dict[str, str]:
        """Why samples have no vector."""
        pairs = zip(self.ids, self.sources, strict=True)
        missing = (id_ for id_, source in pairs if source is None)
        return {id_: why_missing(self.errors.get(id_)) for id_ in missing}


def why_missing(error: str | None) -> str:
    """Say why a sample has no vector."""
    return f"it could not be embedded: {error}" if error else NO_EMBEDDING


def held_by(samples: Any, path: str) -> str:
    """The path of what only samples (or labels) with a vector have: it, or its source if in files.

    Args:
        samples: of a dataset.
        path: of the vectors.
    """
    origin = read_origin(samples, path)
    return path if origin is None or origin.folder is None else f"{path}_source"


def read_sources(samples: Any, field: str) -> Sources:
    """Read the sources of samples, in their order."""
    source, held = f"${field}_source", f"${held_by(samples, field)}"
    columns = {
        "_id": False,
        "id": {"$toString": "$_id"},
        "source": {"$cond": [{"$gt": [held, None]}, {"$ifNull": [source, UNKNOWN]}, "$$REMOVE"]},
        "error": {"$ifNull": [f"${field}_error", "$$REMOVE"]},
    }
    # Documents of nothing but text are read three times as fast as with values(): they cost no
    # ObjectId, and Python's garbage collector does not look at them.
    found = list(samples._aggregate(post_pipeline=[{"$project": columns}]))
    return Sources(
        ids=[each["id"] for each in found],
        sources=[each.get("source") for each in found],
        errors={each["id"]: each["error"] for each in found if each.get("error")},
    )


@dataclass(frozen=True, slots=True)
class Held:
    """How many samples there are, how many have a vector, and how many failed to get one."""

    samples: int = 0
    vectors: int = 0
    failed: int = 0


def count_held(samples: Any, field: str) -> Held:
    """Count the vectors of samples in a field, which need not exist; the database does it."""
    held = f"${held_by(samples, field)}"
    sums = {
        "samples": {"$sum": 1},
        "vectors": {"$sum": {"$cond": [{"$gt": [held, None]}, 1, 0]}},
        "failed": {"$sum": {"$cond": [{"$gt": [f"${field}_error", None]}, 1, 0]}},
    }
    stages = [{"$group": {"_id": None, **sums}}, {"$project": {"_id": False}}]
    return next((Held(**found) for found in samples._aggregate(post_pipeline=stages)), Held())


def sum_sources(samples: Any, field: str, labels: str | None = None) -> list[int]:
    """A checksum of who has a vector made from what, in each of 256 parts of the samples.

    With ``labels``, the path of a label field, it is of its labels instead.

    Up to 256, the number of sums that differ is the least number of vectors that do. The database
    works it out, and nothing but the sums is read.
    """
    source, held = f"${field}_source", f"${held_by(samples, field)}"
    id_ = {"$toString": "$_id"}
    whole = {"$toHashedIndexKey": {"$concat": [id_, " ", {"$ifNull": [source, UNKNOWN]}]}}
    inside = [{"$unwind": f"${labels}"}, {"$replaceRoot": {"newRoot": f"${labels}"}}]
    stages = [
        *(inside if labels else []),
        {"$match": {"$expr": {"$gt": [held, None]}}},
        # The last byte of an id counts up. A sum of longs must not leave what a double holds.
        {
            "$group": {
                "_id": {"$substrCP": [id_, 22, 2]},
                "sum": {"$sum": {"$mod": [whole, 2**31 - 1]}},
            }
        },
    ]
    sums = {each["_id"]: int(each["sum"]) for each in samples._aggregate(post_pipeline=stages)}
    return [sums.get(f"{part:02x}", 0) for part in range(256)]
