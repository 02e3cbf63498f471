"""Files that are read only as a whole: a line that says what they are, and a checksum over all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.whole_files import write_whole

Header = Mapping[str, Any]

_LONGEST = 2**20
"""No header is longer."""


def write_sealed(
    path: Path, kind: str, version: int, header: Header, payload: Sequence[bytes | memoryview]
) -> None:
    """Replace what a file holds, whole or not at all; its folder is made if it is not there.

    Args:
        path: where.
        kind: what it is a file of.
        version: of its format.
        header: what else is to be known of it, as JSON values.
        payload: the bytes behind the header, in parts.

    Raises:
        StoreError: if it cannot be written; the old content stays.
    """
    n_bytes = sum(memoryview(part).nbytes for part in payload)
    content = {"kind": kind, "format": version, **header, "bytes": n_bytes}
    first = json.dumps(content | {"sha256": _checksum(content, payload)}, allow_nan=False)
    parts = [first.encode("ascii"), b"\n", *payload]
    write_whole(path, lambda file: file.writelines(parts), len(first) + n_bytes, make_folder=True)


def read_sealed(
    path: Path, kind: str, version: int, expected: Header, *, remedy: str
) -> tuple[dict[str, Any], memoryview]:
    """Read the header and the payload that `write_sealed` wrote.

    Args:
        path: where.
        kind: of what it must be a file.
        version: the format that can be read.
        expected: what must stand in the header.
        remedy: what is done or to be done about a file of no use, for the errors.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: if it is damaged, of another kind or format, or says something else.
    """
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}. {remedy}") from error
    cut = bytes(data[:_LONGEST]).find(b"\n")
    try:
        header = json.loads(bytes(data[: max(0, cut)]))
        checksum, found = header.pop("sha256"), (header["kind"], header["format"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged: it has no header. {remedy}") from error
    if found != (kind, version):
        raise StoreError(
            f"{path} has format {found[1]} of {found[0]}, and format {version} of {kind} is read. "
            f"{remedy}"
        )
    payload = data[cut + 1 :]
    if checksum != _checksum(header, [payload]):
        raise StoreError(f"{path} is damaged: it is not as it was written. {remedy}")
    for name, value in expected.items():
        if header.get(name) != value:
            raise StoreError(f"{path} is of {name} {header.get(name)}, not of {value}. {remedy}")
    return header, payload


def _checksum(header: Header, payload: Sequence[bytes | memoryview]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode("ascii"))
    for part in payload:
        digest.update(part)
    return digest.hexdigest()
