"""Everything of ours that writes a file whole, with contents that are told apart by a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fiftyone_isoclip.files.embeddings import FileEmbeddings, read_embeddings, write_embeddings
from fiftyone_isoclip.files.reports import write_json
from fiftyone_isoclip.index import Pairs
from fiftyone_isoclip.index.pair_files import KeptPairs, read_pairs, write_pairs
from fiftyone_isoclip.index.search_files import read_inverted, write_inverted
from fiftyone_isoclip.index.search_inverted import InvertedFile, row_keys, train

CLIP = SimpleNamespace(checkpoint=SimpleNamespace(name="made-up"), fingerprint="f" * 64)
OTHER_CLIP = SimpleNamespace(checkpoint=SimpleNamespace(name="another"), fingerprint="e" * 64)
OLD, NEW = 0, 1
ROWS = 160


@dataclass(frozen=True)
class Writer:
    """A kind of file: `make` gives a content, `put` writes it, `get` reads one.

    `told` says all of a content in plain values, so that two are compared to the last bit.
    """

    name: str
    make: Callable[[int], Any]
    put: Callable[[Path, Any], None]
    get: Callable[[Path], Any]
    told: Callable[[Any], object]

    def write(self, path: Path, number: int) -> None:
        self.put(path, self.make(number))

    def holds(self, path: Path, among: Iterable[int] = (OLD, NEW)) -> int | None:
        """Which of these contents a file has, None if there is none; any other is an error."""
        if not path.exists():
            return None
        found = self.told(self.get(path))
        (number,) = (n for n in among if self.told(self.make(n)) == found)
        return number


def _rows(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(ROWS, 6)).astype(np.float32)


@cache
def _trained() -> InvertedFile:
    return train(_rows(0), row_keys(_rows(0), np.arange(ROWS).astype(str)))


def _make_pairs(number: int) -> KeptPairs:
    similarity = np.linspace(0.9, 1, 40, dtype="f4")
    pairs = Pairs(50, np.arange(40), np.arange(40) + 1 + number % 9, similarity, 0.9)
    ids = np.array([f"{number}-{row}" for row in range(50)])
    return KeptPairs(ids, pairs, f"{number:032x}", "weights", "3/7")


def _tell_pairs(kept: KeptPairs) -> object:
    pairs = kept.pairs
    columns = [pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist()]
    return [kept.ids.tolist(), *columns, pairs.n, pairs.least, pairs.recall, kept.digest, kept.band]


def _make_embeddings(number: int) -> FileEmbeddings:
    paths = tuple(f"{number}/{row}.jpg" for row in range(ROWS))
    failed = {f"{number}.png": "broken"}
    return FileEmbeddings((*paths, *failed), np.arange(ROWS), _rows(number), failed)


def _tell_inverted(inverted: InvertedFile) -> object:
    import faiss

    index = faiss.serialize_index(inverted.index).tobytes()
    return [inverted.keys.tolist(), index, inverted.trained_on, inverted.gone]


INVERTED = Writer(
    "search.inverted",
    lambda number: replace(_trained(), keys=_trained().keys + np.uint64(number)),
    lambda path, found: write_inverted(path, found, fingerprint="weights", band="3/7"),
    lambda path: read_inverted(path, fingerprint="weights", band="3/7"),
    _tell_inverted,
)
PAIRS = Writer(
    "kept.pairs",
    _make_pairs,
    lambda path, kept: write_pairs(path, kept, "dataset"),
    lambda path: read_pairs(path, "dataset"),
    _tell_pairs,
)
EMBEDDINGS = Writer(
    "embeddings.npz",
    _make_embeddings,
    lambda path, embedded: write_embeddings(path, embedded, CLIP),
    lambda path: read_embeddings(path, CLIP),
    lambda found: [found.embedded_paths, found.embeddings.tolist(), found.failed],
)
REPORT = Writer(
    "report.json",
    lambda number: {"numbers": list(range(number, 3_000 + number))},
    write_json,
    lambda path: json.loads(path.read_text()),
    lambda report: report,
)
WRITERS = (INVERTED, PAIRS, EMBEDDINGS, REPORT)
