"""The manifest of a store: what is committed of its files, and where its vectors came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.blocks import BLOCK, REMEDY, DamagedStoreError, FileRecord

FORMAT = 2
MANIFEST = "manifest.json"

OURS = re.compile(r"(vectors|ids|dead)-[0-9a-f]{16}\.bin")
"""The names of the files that a manifest may speak of."""

_BYTES = {"float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store holds: shape and type of its vectors, where they came from, and its files.

    ``count`` rows are committed, also those that ``dead`` (a bit a row; None: no row) marks as
    removed; an id takes ``id_bytes``.
    """

    count: int
    dim: int
    dtype: str
    id_bytes: int
    fingerprint: str
    band: str | None
    details: Mapping[str, Any]
    vectors: FileRecord
    ids: FileRecord
    dead: FileRecord | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """How many bytes are committed of each file that belongs to this state, by its name."""
        files = (self.vectors, self.ids, self.dead)
        return {file.name: file.size for file in files if file is not None}

    def dumps(self) -> bytes:
        """Write the manifest as JSON that carries its own checksum.

        Raises:
            StoreError: if the details are not made of JSON values.
        """
        try:
            # What is summed must be what a reader will parse: tuples are lists, keys are text.
            content = json.loads(json.dumps(asdict(self), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"The details of a store must be JSON values ({error}); "
                "give text, finite numbers, lists and mappings with text keys."
            ) from error
        record = {"format": FORMAT, "sha256": _checksum(content), "content": content}
        return json.dumps(record).encode("ascii")

    @classmethod
    def loads(cls, data: bytes, path: Path) -> Manifest:
        """Read a manifest back, refusing whatever was not written by `dumps`.

        Raises:
            DamagedStoreError: if it is damaged or of another format.
        """
        try:
            record = json.loads(data)
            version = record["format"]
            sound = version != FORMAT or record["sha256"] == _checksum(record["content"])
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedStoreError(f"{path} is damaged: it is not a manifest. {REMEDY}") from error
        if version != FORMAT:
            raise DamagedStoreError(
                f"{path} has format {version} and this version reads format {FORMAT}. {REMEDY}"
            )
        if not sound:
            raise DamagedStoreError(
                f"{path} is damaged: it does not match its own checksum. {REMEDY}"
            )
        content = record["content"]
        try:
            for name in ("vectors", "ids", "dead"):
                if content[name] is not None:
                    sums = tuple(content[name]["sums"])
                    content[name] = FileRecord(**content[name] | {"sums": sums})
            manifest = cls(**content)
            fits = manifest._fits()
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedStoreError(f"{path} is damaged: {error}. {REMEDY}") from error
        if not fits:
            raise DamagedStoreError(f"{path} is damaged: its counts do not fit together. {REMEDY}")
        return manifest

    def _fits(self) -> bool:
        """Whether names, sizes and counts are such as a writer of this version gives them."""
        if self.dtype not in _BYTES or min(self.count, self.dim, self.id_bytes) < 0:
            return False
        due = {"vectors": self.count * self.dim * _BYTES[self.dtype]}
        due |= {"ids": self.count * self.id_bytes}
        if self.dead is not None:
            due["dead"] = min(self.dead.size, (self.count + 7) // 8)  # rows written since are alive
        files = {"vectors": self.vectors, "ids": self.ids, "dead": self.dead}
        return all(
            file is not None
            and OURS.fullmatch(file.name)
            and file.name.startswith(f"{kind}-")
            and file.size == due[kind]
            and len(file.sums) == -(-file.size // BLOCK)
            for kind, file in files.items()
            if kind in due
        )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        StoreError: if there is none, or it is damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        return Manifest.loads(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise StoreError(f"{folder} holds no stored vectors; compute them first.") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
