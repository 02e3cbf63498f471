"""What a store says of itself, in JSON with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from fiftyone_isoclip.errors import StoreError

MANIFEST = "manifest.json"
FORMAT = 2
DTYPES = ("float32", "float16")

_PACKAGES = ("fiftyone-isoclip", "torch", "open_clip_torch", "pillow", "simplejpeg", "pyarrow")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made a vector: vectors of one recipe belong together.

    ``checkpoint`` is how it was called, ``fingerprint`` that of its weights; ``precision`` is what
    the tower ran in; ``dim`` counts the numbers of a vector.
    """

    checkpoint: str
    fingerprint: str
    precision: str
    decoding: str
    dim: int

    def fits(self, other: Recipe) -> bool:
        """Whether it makes the same vectors; the same weights may go by two names."""
        return self._essence == other._essence

    def __str__(self) -> str:
        return (
            f"{self.checkpoint} (weights {self.fingerprint[:12]}) in {self.precision}, "
            f"{self.decoding} decoding"
        )

    @property
    def _essence(self) -> tuple[object, ...]:
        return self.fingerprint, self.precision, self.decoding, self.dim


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The recipe of a store, how it is laid out, and what its last run left.

    Attributes:
        recipe: of all its vectors.
        dtype: in which they are stored, "float32" or "float16".
        shard_rows: images in a shard, at most.
        complete: whether the last run got to its end.
        shards: the shards that there were at that end, and how many images each of them has.
        versions: of the packages that began the store.
    """

    recipe: Recipe
    dtype: str
    shard_rows: int
    complete: bool = False
    shards: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=_versions)

    @property
    def numbers(self) -> np.dtype[Any]:
        """The type of the stored numbers."""
        return np.dtype(self.dtype)

    def dumps(self) -> bytes:
        """The manifest as JSON, with a checksum over its content."""
        content = asdict(self)
        record = {"format": FORMAT, "sha256": _checksum(content), "content": content}
        return (json.dumps(record, indent=1) + "\n").encode("ascii")

    @classmethod
    def loads(cls, text: bytes, where: str) -> Manifest:
        """Read what `dumps` wrote.

        Raises:
            StoreError: it is damaged, of another format, or no manifest of a store at all.
        """
        try:
            record = json.loads(text)
            found, content = record["format"], record["content"]
            sound = record["sha256"] == _checksum(content)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{where} {_NO_MANIFEST}") from error
        if found != FORMAT:
            raise StoreError(
                f"{where} has format {found}, and this version reads {FORMAT}; "
                "embed into another store, or read this one with the version that made it"
            )
        if not sound:
            raise StoreError(f"{where} does not match its own checksum: {_NO_MANIFEST}")
        return cls(**content | {"recipe": Recipe(**content["recipe"])})


_NO_MANIFEST = (
    "is no whole manifest of a store of embeddings; if this is such a store, remove that file and "
    "run the same `isoclip embed` again, which keeps every whole shard; else name another store"
)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
