"""How long one query takes, from an image file to the ranks of a gallery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.encoder import Clip, invert_images
from fiftyone_isoclip.errors import ImageError, IsoClipError
from fiftyone_isoclip.evaluation.hashing import PHASH, hash_images
from fiftyone_isoclip.evaluation.inversion_method import OTI
from fiftyone_isoclip.evaluation.methods import PLAIN
from fiftyone_isoclip.evaluation.report.machine import describe_machine
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows, unit_rows
from fiftyone_isoclip.projector import Band

REPEATS = 5

_TIMED = 3
"""Query files that are timed where latency is told beside quality: inversion takes seconds each."""

Seconds = tuple[float, float]
"""Of making the query's row, and of ranking the gallery by it."""


@dataclass(frozen=True, eq=False, slots=True)
class Latency:
    """How long a method takes a query; ``embedding`` and ``ranking`` (n,) in seconds, one a run.

    ``embedding`` is from the file to the row that is compared, ``ranking`` the cosines with the
    whole gallery and their full order.
    """

    method: str
    embedding: Float64s
    ranking: Float64s

    @property
    def seconds(self) -> float:
        """The median over the runs, from file to ranks."""
        return float(np.median(self.embedding + self.ranking))


@dataclass(frozen=True, eq=False)
class Latencies:
    """Methods timed on the same queries in turns, one query at a time, after a warm-up each.

    ``failed`` maps queries that could not be read to the reason; they are not timed.
    """

    methods: tuple[Latency, ...]
    n_gallery: int
    repeats: int
    machine: Mapping[str, str]
    failed: Mapping[str, str] = field(default_factory=dict)

    def of(self, method: str) -> float | None:
        """Median seconds a query of a method, None if it was not timed."""
        found = [each.seconds for each in self.methods if each.method == method]
        return found[0] if found else None

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values, times in seconds."""
        rows = [
            {
                "method": each.method,
                "seconds_per_query": each.seconds,
                "embedding": float(np.median(each.embedding)),
                "ranking": float(np.median(each.ranking)),
                "runs": len(each.embedding),
            }
            for each in self.methods
        ]
        told = {"n_gallery": self.n_gallery, "repeats": self.repeats, "failed": dict(self.failed)}
        return {"methods": rows, **told, "machine": dict(self.machine)}


@dataclass(frozen=True, eq=False)
class _Contender:
    """How a method makes a row (d,) of a file, and the rows (m, d) it is compared with."""

    name: str
    make: Callable[[str], Float32s]
    gallery: Float32s

    def run(self, path: str) -> Seconds:
        began = time.perf_counter()
        row = self.make(path)
        made = time.perf_counter()
        rank(row, self.gallery)
        return made - began, time.perf_counter() - made


def measure_latency(
    clip: Clip,
    queries: Sequence[str | Path],
    gallery: npt.ArrayLike,
    bands: Sequence[Band] = (),
    *,
    inversion: bool = False,
    hashed: Sequence[str | Path] = (),
    repeats: int = REPEATS,
    told: Callable[[int], object] | None = None,
) -> Latencies:
    """Time plain CLIP and each band on image files, against plain embeddings (m, r) of a gallery.

    The gallery is prepared beforehand and not timed, as an index would be.

    Args:
        clip: the checkpoint, on its device and in its precision.
        queries: image files.
        gallery: plain embeddings (m, r).
        bands: IsoCLIP bands to time beside plain CLIP.
        inversion: whether OTI is timed as well, its prompts optimised one at a time.
        hashed: image files to time pHash against; none leaves it out.
        repeats: runs a method and query that count.
        told: called with how many more runs are done.

    Raises:
        ImageError: no query can be read.
        IsoClipError: ``repeats`` is below 1.
    """
    if repeats < 1:
        raise IsoClipError(f"repeats={repeats} was asked for; give at least 1")
    contenders = list(_contenders(clip, gallery, bands, inversion, hashed))
    readable, failed = _readable(clip, queries)
    times: dict[str, list[Seconds]] = {each.name: [] for each in contenders}
    for each in contenders:  # the first run of anything is slower than all others
        each.run(readable[0])
    for _ in range(repeats):
        for path in readable:
            for each in contenders:
                times[each.name].append(each.run(path))
                if told is not None:
                    told(1)
    rows = (Latency(name, *np.array(each).T) for name, each in times.items())
    where = {"device": clip.device, "precision": clip.precision, "model": clip.checkpoint.name}
    n = len(contenders[0].gallery)
    return Latencies(tuple(rows), n, repeats, where | describe_machine(), failed)


def seconds_a_query(
    clip: Clip,
    files: Sequence[str | Path],
    gallery: npt.ArrayLike,
    bands: Sequence[Band],
    *,
    hashed: Sequence[str | Path] = (),
) -> Mapping[str, float]:
    """Median seconds a query by method, inversion among them: of the first few files, run once.

    Embeddings outlive their files: where none of these can be read, nothing is timed.
    """
    try:
        found = measure_latency(
            clip, files[:_TIMED], gallery, bands, inversion=True, hashed=hashed, repeats=1
        )
    except ImageError:
        return {}
    return {each.method: each.seconds for each in found.methods}


def rank(row: Float32s, gallery: Float32s) -> Rows:
    """Gallery rows by their cosine with a row (d,), the most similar first: (m,)."""
    ranks: Rows = np.argsort(-(gallery @ row), kind="stable")
    return ranks


def _contenders(
    clip: Clip,
    gallery: npt.ArrayLike,
    bands: Sequence[Band],
    inversion: bool,
    hashed: Sequence[str | Path],
) -> list[_Contender]:
    plain = unit_rows(gallery)

    def embedded(path: str) -> Float32s:
        """(1, r), not normalised."""
        (pixels,) = clip.reader.read(path)
        if isinstance(pixels, str):
            raise ImageError(f"{path} could be read and no longer can: {pixels}")
        return clip.image_embeddings(pixels[None])

    def mapped(band: Band) -> _Contender:
        mapping = clip.isoclip(band)
        name = f"IsoCLIP {band}"
        return _Contender(name, lambda path: mapping(embedded(path))[0], mapping(plain))

    def inverted(path: str) -> Float32s:
        prompt: Float32s = unit_rows(invert_images(clip, embedded(path)).embeddings)[0]
        return prompt

    contenders = [_Contender(PLAIN, lambda path: unit_rows(embedded(path))[0], plain)]
    contenders += map(mapped, bands)
    if inversion:
        contenders.append(_Contender(OTI, inverted, plain))
    if hashed:
        contenders.append(
            _Contender(PHASH, lambda path: hash_images([path])[0], hash_images(hashed))
        )
    return contenders


def _readable(clip: Clip, queries: Sequence[str | Path]) -> tuple[list[str], dict[str, str]]:
    read = {str(path): clip.reader.read(path)[0] for path in queries}
    failed = {path: found for path, found in read.items() if isinstance(found, str)}
    readable = [path for path in read if path not in failed]
    if not readable:
        raise ImageError(
            f"none of {len(read)} queries can be read, so none can be timed; give image files"
        )
    return readable, failed
