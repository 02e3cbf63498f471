"""The manifest of a store: what its files hold, and the checksums that tell when they do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fiftyone_isoclip.errors import StoreError

FORMAT = 1
MANIFEST = "manifest.json"
REMEDY = "Delete the folder and compute these vectors again."

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One data file as it was written: its name in the folder, size in bytes and checksum."""

    name: str
    bytes: int
    sha256: str

    def verify(self, folder: Path) -> Path:
        """Give the path of this file after checking every byte of it.

        Raises:
            FileNotFoundError: if the file is gone.
            StoreError: if its size or content is not what was written.
        """
        path = folder / self.name
        size = path.stat().st_size
        if size != self.bytes:
            raise StoreError(
                f"{path} is damaged: it has {size:,} bytes and was written with {self.bytes:,}. "
                f"{REMEDY}"
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != self.sha256:
            raise StoreError(
                f"{path} is damaged: its checksum is not the one it was written with. {REMEDY}"
            )
        return path


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store holds: shape and type of its vectors, where they came from, and its files."""

    count: int
    dim: int
    dtype: str
    fingerprint: str
    band: str | None
    details: Mapping[str, Any]
    vectors: FileRecord
    ids: FileRecord

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
        return json.dumps(record, indent=1).encode("ascii")

    @classmethod
    def loads(cls, data: bytes, path: Path) -> Manifest:
        """Read a manifest back, refusing whatever was not written by `dumps`.

        Raises:
            StoreError: if it is damaged or of another format.
        """
        try:
            record = json.loads(data)
            version = record["format"]
            sound = version != FORMAT or record["sha256"] == _checksum(record["content"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged: it is not a manifest. {REMEDY}") from error
        if version != FORMAT:
            raise StoreError(
                f"{path} has format {version} and this version reads format {FORMAT}. {REMEDY}"
            )
        if not sound:
            raise StoreError(f"{path} is damaged: it does not match its own checksum. {REMEDY}")
        content = record["content"]
        content["vectors"] = FileRecord(**content["vectors"])
        content["ids"] = FileRecord(**content["ids"])
        return cls(**content)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
