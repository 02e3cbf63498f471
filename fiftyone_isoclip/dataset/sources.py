"""Which samples have a vector in a field, what it was made from, and why others have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fiftyone_isoclip.dataset.fields import read_origin

NO_EMBEDDING = "it has no embedding yet"


@dataclass(frozen=True, slots=True)
class Sources:
    """The samples (n), whether each has a vector, what that was made from, and the failures.

    A source is None without a vector, and where nobody noted it.
    """

    ids: list[str]
    held: list[bool]
    sources: list[str | None]
    errors: dict[str, str]

    @property
    def skipped(self) -> dict[str, str]:
        """Why samples have no vector."""
        missing = (id_ for id_, held in zip(self.ids, self.held, strict=True) if not held)
        return {id_: why_missing(self.errors.get(id_)) for id_ in missing}


def why_missing(error: str | None) -> str:
    """Say why a sample has no vector."""
    return f"it could not be embedded: {error}" if error else NO_EMBEDDING


def read_sources(samples: Any, field: str) -> Sources:
    """Read the sources of samples, in their order."""
    origin = read_origin(samples, field)
    in_files = origin is not None and origin.folder is not None
    holder = f"{field}_source" if in_files else field
    columns = {
        "source": f"${field}_source",
        "held": {"$gt": [f"${holder}", None]},
        "error": f"${field}_error",
    }
    # One stream of documents: values() takes twice as long, most of it in a list a column.
    found = list(samples._aggregate(post_pipeline=[{"$project": columns}]))
    held = [each["held"] for each in found]
    return Sources(
        ids=[str(each["_id"]) for each in found],
        held=held,
        sources=[each.get("source") if each["held"] else None for each in found],
        errors={str(each["_id"]): each["error"] for each in found if each.get("error")},
    )
