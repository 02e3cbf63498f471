"""The pairs of a search on disk: replaced all at once, read only if each byte is as written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.pairs import Pairs
from fiftyone_isoclip.index.sealed import read_sealed, write_sealed

_KIND, _FORMAT = "kept pairs", 1
_REMEDY = "Moving the similarity searches anew, and so does find_duplicates(dataset, least=...)."


@dataclass(frozen=True, eq=False, slots=True)
class KeptPairs:
    """Pairs of rows, the sample that stands for each row, and what was compared.

    Attributes:
        ids: the sample of each row.
        pairs: the pairs.
        digest: of the vectors and their samples: with others it is another one.
        fingerprint: of the weights that made the vectors.
        band: of the vectors, as "TOP/BOTTOM".
    """

    ids: npt.NDArray[np.str_]
    pairs: Pairs
    digest: str
    fingerprint: str
    band: str


def write_pairs(path: Path, kept: KeptPairs, dataset_id: str) -> None:
    """Replace what a file holds by pairs of samples of this dataset.

    Raises:
        StoreError: if it cannot be written; the old content stays.
    """
    pairs = kept.pairs
    header = {
        "dataset": dataset_id,
        "name": path.stem,
        "digest": kept.digest,
        "fingerprint": kept.fingerprint,
        "band": kept.band,
        "rows": len(kept.ids),
        "pairs": len(pairs.left),
        "least": pairs.least,
        "recall": pairs.recall,
    }
    columns = [pairs.left.astype("<i4"), pairs.right.astype("<i4"), pairs.similarity.astype("<f4")]
    ids = "\n".join(kept.ids.tolist()).encode()
    write_sealed(path, _KIND, _FORMAT, header, [*(column.data for column in columns), ids])


def read_pairs(path: Path, dataset_id: str) -> KeptPairs:
    """Read what `write_pairs` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: if it is damaged, of another format, or of another dataset.
    """
    of = {"dataset": dataset_id, "name": path.stem}
    header, payload = read_sealed(path, _KIND, _FORMAT, of, remedy=_REMEDY)
    try:
        return _unpacked(header, payload)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}. {_REMEDY}") from error


def _unpacked(header: dict[str, Any], payload: memoryview) -> KeptPairs:
    n, rows = header["pairs"], header["rows"]
    left, right = (
        np.frombuffer(payload, "<i4", n, 4 * n * column).astype(np.int64) for column in (0, 1)
    )
    similarity = np.frombuffer(payload, "<f4", n, 8 * n).astype(np.float32)
    ids = np.array(bytes(payload[12 * n :]).decode().split("\n") if rows else [], np.str_)
    ends = np.concatenate([left, right])
    if len(ids) != rows or (n and not (0 <= ends.min() <= ends.max() < rows)):
        raise ValueError(f"it has {len(ids)} ids for {rows} rows, or pairs of other rows")
    return KeptPairs(
        ids,
        Pairs(rows, left, right, similarity, header["least"], header["recall"]),
        header["digest"],
        header["fingerprint"],
        header["band"],
    )
