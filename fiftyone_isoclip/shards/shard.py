"""One shard: some images with their embeddings or reasons, as a Parquet file that proves itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.shards.manifest import Manifest, Recipe

OK, FAILED = "ok", "failed"

SHARD_NAME = re.compile(r"[0-9a-f]{32}\.parquet")

_KEY = b"isoclip"
_CODEC = "zstd"


class DamagedShardError(StoreError):
    """A shard that is not what was written; the message says in what way, without its name."""


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """Some images, each with its plain embedding or the reason why it has none.

    Shapes: ``ids`` and ``paths`` (n,); ``sizes`` (n,), the bytes of each file just before it was
    read, None where nothing told; ``rows`` (m,) int64 positions in ``ids`` that have an embedding,
    ascending; ``embeddings`` (m, dim) float32 or float16, not normalised. ``failures`` maps the
    other positions to a reason.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    sizes: tuple[int | None, ...]
    rows: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.floating[Any]]
    failures: dict[int, str]

    @property
    def name(self) -> str:
        """The name of its file, which the ids alone decide: written twice, it is there once."""
        return f"{hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()[:32]}.parquet"

    @property
    def reasons(self) -> dict[str, str]:
        """The ids without an embedding, and why."""
        return {self.ids[row]: reason for row, reason in self.failures.items()}

    def without(self, ids: AbstractSet[str]) -> Shard:
        """The same but for these ids."""
        kept = [row for row, id_ in enumerate(self.ids) if id_ not in ids]
        new_row = {row: place for place, row in enumerate(kept)}
        chosen = np.isin(self.rows, kept)
        return Shard(
            tuple(self.ids[row] for row in kept),
            tuple(self.paths[row] for row in kept),
            tuple(self.sizes[row] for row in kept),
            np.array([new_row[int(row)] for row in self.rows[chosen]], np.int64),
            self.embeddings[chosen],
            {new_row[row]: reason for row, reason in self.failures.items() if row in new_row},
        )

    def dumps(self, manifest: Manifest) -> bytes:
        """The shard as a Parquet file: id, path, bytes, embedding, status and reason."""
        recipe, n = manifest.recipe, len(self.ids)
        table = np.zeros((n, recipe.dim), manifest.numbers)
        table[self.rows] = self.embeddings
        absent = np.ones(n, bool)
        absent[self.rows] = False
        numbers = pa.array(table.reshape(-1))
        columns = {
            "id": pa.array(self.ids, pa.string()),
            "path": pa.array(self.paths, pa.string()),
            "bytes": pa.array(self.sizes, pa.int64()),
            "embedding": pa.FixedSizeListArray.from_arrays(
                numbers, recipe.dim, mask=pa.array(absent)
            ),
            "status": pa.array(np.where(absent, FAILED, OK).tolist(), pa.string()),
            "reason": pa.array([self.failures.get(row) for row in range(n)], pa.string()),
        }
        record = {"recipe": asdict(recipe), "sha256": self._checksum(recipe)}
        file = pa.BufferOutputStream()
        # Nothing is gained by packing the numbers, and a dictionary of them would be larger still.
        pq.write_table(
            pa.table(columns, metadata={_KEY: json.dumps(record)}),
            file,
            use_dictionary=["status", "reason"],
            compression=dict.fromkeys(columns.keys() - {"embedding"}, _CODEC),
            row_group_size=max(n, 1),
        )
        return bytes(file.getvalue())

    @classmethod
    def loads(cls, content: bytes, name: str, manifest: Manifest) -> Shard:
        """Read what `dumps` wrote under a name, all of it checked.

        Raises:
            DamagedShardError: it is not what was written.
            StoreError: it is sound but of another recipe, memory ran out, or this pyarrow lacks
                the codec.
        """
        try:
            table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
            record = json.loads(table.schema.metadata[_KEY])
            recipe = Recipe(**record["recipe"])
            shard = cls._of(table, recipe.dim)
            sound = record["sha256"] == shard._checksum(recipe) and shard.name == name
        except MemoryError as error:  # a sound shard may meet that too, and must not be given up
            raise StoreError(f"{name} cannot be read: there is not enough memory") from error
        except Exception as error:  # garbage meets every corner of a decoder
            if not pa.Codec.is_available(_CODEC):
                raise StoreError(
                    f"{name} cannot be read: this build of pyarrow {pa.__version__} has no "
                    f"{_CODEC}; install one that has it, such as that of `pip install pyarrow`"
                ) from error
            raise DamagedShardError(f"it is no whole shard ({type(error).__name__})") from error
        if not sound:
            raise DamagedShardError("its content is not what its checksum or its name says")
        if not recipe.fits(manifest.recipe) or shard.embeddings.dtype != manifest.numbers:
            raise StoreError(f"{name} holds {shard.embeddings.dtype} of {recipe}")
        return shard

    @classmethod
    def _of(cls, table: pa.Table, dim: int) -> Shard:
        ids, paths, sizes = (tuple(table[name].to_pylist()) for name in ("id", "path", "bytes"))
        vectors = table["embedding"].combine_chunks()
        rows = np.flatnonzero(vectors.is_valid().to_numpy(zero_copy_only=False))
        failed = np.setdiff1d(np.arange(len(ids)), rows).tolist()
        reasons, states = table["reason"].to_pylist(), table["status"].to_pylist()
        if states != [OK if reason is None else FAILED for reason in reasons]:
            raise ValueError("status")
        numbers = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), dim)
        return cls(ids, paths, sizes, rows, numbers, {row: reasons[row] for row in failed})

    def _checksum(self, recipe: Recipe) -> str:
        numbers = np.ascontiguousarray(self.embeddings)
        files = [self.ids, self.paths, self.sizes]
        rest = [self.rows.tolist(), sorted(self.failures.items()), numbers.dtype.name]
        told = [asdict(recipe), *files, *rest]
        digest = hashlib.sha256(json.dumps(told).encode())
        digest.update(numbers.tobytes())
        return digest.hexdigest()
