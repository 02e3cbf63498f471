"""What a search for the duplicates of a store found, and the Parquet file that keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.whole_files import write_whole
from fiftyone_isoclip.shards.duplicates.groups import DUPLICATE, SCHEMA

_KEY = b"isoclip"


@dataclass(frozen=True, eq=False, slots=True)
class StoreDuplicates:
    """The groups of duplicates in a store, and how they were found.

    Attributes:
        rows: an image of a group each: the columns group, component, id, path, role ("keeper" or
            "duplicate"), similarity (to the keeper) and reason (the keeper's). Groups are stars
            around their keepers; a component joins groups that pairs connect.
        facts: what was searched, and how far the groups are all there are.
    """

    rows: pa.Table
    facts: Facts

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(pc.unique(self.rows["group"]))

    @property
    def duplicates(self) -> int:
        """How many images are duplicates of another one."""
        return int(pc.sum(pc.equal(self.rows["role"], DUPLICATE), min_count=0).as_py())

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        counts = {"groups": self.groups, "duplicates": self.duplicates}
        return asdict(self.facts) | counts | {"rows": self.rows.to_pylist()}

    def write(self, path: str | Path) -> None:
        """Write the groups as a Parquet file, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        file = pa.BufferOutputStream()
        metadata = {_KEY: json.dumps(asdict(self.facts))}
        pq.write_table(self.rows.replace_schema_metadata(metadata), file, compression="zstd")
        content = file.getvalue()
        write_whole(path, lambda file: file.write(content), len(content))


@dataclass(frozen=True, slots=True)
class Facts:
    """What was searched, and how.

    Attributes:
        checkpoint: by the store, and the ``fingerprint`` of its weights.
        band: of IsoCLIP.
        similarity: the cosine to the keeper from which an image is a duplicate.
        images: in the store, those without an embedding included.
        prefer: the rule by which keepers were chosen.
        recall: the share of an image's pairs that was found, in the mean of images of which all are
            known (``known_pairs``), with its bounds at 95 %; 1 where every two images were
            compared, None where no pair was known.
        cells: how many there were, and ``visited``: in how many of them an image was compared.
    """

    checkpoint: str
    fingerprint: str
    band: str
    similarity: float
    images: int
    prefer: str
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    known_pairs: int
    cells: int
    visited: int

    @property
    def exact(self) -> bool:
        """Whether every two images were compared."""
        return self.cells == 1


def read_duplicates(path: str | Path) -> StoreDuplicates:
    """Read what `StoreDuplicates.write` wrote.

    Raises:
        StoreError: there is no such file, it cannot be read, or it is something else.
    """
    try:
        table = pq.ParquetFile(path).read()
        facts = Facts(**json.loads(table.schema.metadata[_KEY]))
        rows = table.replace_schema_metadata().cast(SCHEMA)
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} does not exist; `isoclip duplicates STORE --out` makes it"
        ) from error
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} holds no groups of duplicates ({type(error).__name__}); give a file that "
            "`isoclip duplicates STORE --out` made"
        ) from error
    return StoreDuplicates(rows, facts)
