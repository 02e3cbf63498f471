"""Everything of ours that writes a file whole, each with two contents that are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fiftyone_isoclip.files.embeddings import FileEmbeddings, read_embeddings, write_embeddings
from fiftyone_isoclip.files.reports import write_json
from fiftyone_isoclip.index import Pairs
from fiftyone_isoclip.index.pair_files import KeptPairs, read_pairs, write_pairs
from fiftyone_isoclip.index.search_files import read_inverted, write_inverted
from fiftyone_isoclip.index.search_inverted import row_keys, train

CLIP = SimpleNamespace(checkpoint=SimpleNamespace(name="made-up"), fingerprint="f" * 64)
OTHER_CLIP = SimpleNamespace(checkpoint=SimpleNamespace(name="another"), fingerprint="e" * 64)
OLD, NEW = 0, 1


@dataclass(frozen=True)
class Writer:
    """``write`` puts the old or the new content into a file, ``read`` gives what is in it.

    `holds` compares all that is read with what was written.
    """

    name: str
    write: Callable[[Path, int], None]
    read: Callable[[Path], object]
    contents: tuple[object, object]

    def holds(self, path: Path) -> int | None:
        """Which content a file has, None if there is no file; any other is an error."""
        if not path.exists():
            return None
        found = self.read(path)
        (which,) = (n for n, content in enumerate(self.contents) if _same(found, content))
        return which


def _same(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other)


def _rows(which: int) -> np.ndarray:
    return np.random.default_rng(which).normal(size=(160, 6)).astype(np.float32)


_INVERTED = [train(_rows(n), row_keys(_rows(n), np.arange(160).astype(str))) for n in (OLD, NEW)]
_PAIRS = [
    KeptPairs(
        np.array([f"{n}{row:023x}" for row in range(50)]),
        Pairs(50, np.arange(40), np.arange(40) + 1 + n, np.linspace(0.9, 1, 40, dtype="f4"), 0.9),
        digest=f"{n:032x}",
    )
    for n in (OLD, NEW)
]
_EMBEDDED = [
    FileEmbeddings(
        tuple(f"{n}/{row}.jpg" for row in range(160)), np.arange(160), _rows(n), {f"{n}": "broken"}
    )
    for n in (OLD, NEW)
]
_REPORTS = [{"numbers": list(range(n, 3_000 + n))} for n in (OLD, NEW)]


def _told_pairs(kept: KeptPairs) -> object:
    pairs = kept.pairs
    columns = [pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist()]
    return [kept.ids.tolist(), *columns, pairs.n, pairs.least, pairs.recall, kept.digest]


def _told_embedded(embedded: FileEmbeddings) -> object:
    return [embedded.embedded_paths, embedded.embeddings.tolist(), embedded.failed]


def _told_inverted(inverted: object) -> object:
    import faiss

    return [inverted.keys.tolist(), faiss.serialize_index(inverted.index).tobytes()]


def _read_report(path: Path) -> object:
    import json

    return json.loads(path.read_text())


INVERTED = Writer(
    "search.inverted",
    lambda path, n: write_inverted(path, _INVERTED[n], fingerprint="weights", band="3/7"),
    lambda path: _told_inverted(read_inverted(path, fingerprint="weights", band="3/7")),
    tuple(map(_told_inverted, _INVERTED)),
)
PAIRS = Writer(
    "kept.pairs",
    lambda path, n: write_pairs(path, _PAIRS[n], "dataset"),
    lambda path: _told_pairs(read_pairs(path, "dataset")),
    tuple(map(_told_pairs, _PAIRS)),
)
EMBEDDINGS = Writer(
    "embeddings.npz",
    lambda path, n: write_embeddings(path, _EMBEDDED[n], CLIP),
    lambda path: _told_embedded(read_embeddings(path, CLIP)),
    tuple(map(_told_embedded, _EMBEDDED)),
)
REPORT = Writer(
    "report.json", lambda path, n: write_json(path, _REPORTS[n]), _read_report, tuple(_REPORTS)
)

WRITERS = (INVERTED, PAIRS, EMBEDDINGS, REPORT)
