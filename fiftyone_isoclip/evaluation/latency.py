"""How long one query takes, from an image file to the ranks of a gallery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.encoder import Clip, invert_images
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.evaluation.hashing import PHASH, hash_images
from fiftyone_isoclip.evaluation.inversion_method import OTI
from fiftyone_isoclip.evaluation.methods import PLAIN
from fiftyone_isoclip.index.vectors import Float32s, Rows, unit_rows
from fiftyone_isoclip.projector import Band

REPEATS = 5

_TIMED = 3
"""Query files that are timed where latency is told beside quality: inversion takes seconds each."""


@dataclass(frozen=True, eq=False)
class _Contender:
    """How a method makes a row (d,) of a file, and the rows (m, d) it is compared with."""

    name: str
    make: Callable[[str], Float32s]
    gallery: Float32s

    def run(self, path: str) -> float:
        """The seconds from the file to the ranks of the whole gallery."""
        began = time.perf_counter()
        rank(self.make(path), self.gallery)
        return time.perf_counter() - began


def measure_latency(
    clip: Clip,
    queries: Sequence[str | Path],
    gallery: npt.ArrayLike,
    bands: Sequence[Band] = (),
    *,
    inversion: bool = False,
    hashed: Sequence[str | Path] = (),
    repeats: int = REPEATS,
) -> dict[str, float]:
    """Median seconds a query by method: from an image file to the ranks of a gallery.

    Plain CLIP and each band take turns on the same queries, one query at a time, after a warm-up
    each. The gallery is prepared beforehand and not timed, as an index would be. Queries that
    cannot be read are left out.

    Args:
        clip: the checkpoint, on its device and in its precision.
        queries: image files.
        gallery: plain embeddings (m, r).
        bands: IsoCLIP bands to time beside plain CLIP.
        inversion: whether OTI is timed as well, its prompts optimised one at a time.
        hashed: image files to time pHash against; none leaves it out.
        repeats: runs a method and query that count, at least 1.

    Raises:
        ImageError: no query can be read.
    """
    contenders = _contenders(clip, gallery, bands, inversion, hashed)
    readable = _readable(clip, queries)
    times: dict[str, list[float]] = {each.name: [] for each in contenders}
    for each in contenders:  # the first run of anything is slower than all others
        each.run(readable[0])
    for _ in range(repeats):
        for path in readable:
            for each in contenders:
                times[each.name].append(each.run(path))
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


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
        return measure_latency(
            clip, files[:_TIMED], gallery, bands, inversion=True, hashed=hashed, repeats=1
        )
    except ImageError:
        return {}


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


def _readable(clip: Clip, queries: Sequence[str | Path]) -> list[str]:
    readable = [str(path) for path in queries if not isinstance(clip.reader.read(path)[0], str)]
    if not readable:
        raise ImageError(
            f"none of {len(queries)} queries can be read, so none can be timed; give image files"
        )
    return readable
