"""The spaces that the panel has read, kept in this process between its drawings: a few of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.fields import Origin, need_origin
from fiftyone_isoclip.dataset.sources import sum_sources
from fiftyone_isoclip.dataset.staleness import version_of
from fiftyone_isoclip.projector import WHOLE, Band, Spectrum

MOST_SPACES = 2
MOST_BANDS = 2
"""How many bands of a space are kept beside plain CLIP, as large as the vectors themselves."""
MOST_SAMPLES = 200_000
"""The first so many samples of a dataset are read: 200,000 vectors of 512 numbers are 0.4 GB."""

_lock = Lock()
_spaces: OrderedDict[tuple[Any, str, Origin], LoadedSpace] = OrderedDict()


@dataclass(frozen=True, eq=False)
class LoadedSpace:
    """A field of plain embeddings in memory: plain CLIP, the spectrum, and bands as asked for.

    ``own`` is the band of the checkpoint; ``sums`` are checksums of what the vectors were made
    from; ``n_left_out`` samples lie beyond the first ``MOST_SAMPLES``.
    """

    plain: Any
    spectrum: Spectrum
    own: Band
    sums: tuple[int, ...]
    n_left_out: int
    _bands: OrderedDict[Band, Any] = field(default_factory=OrderedDict)

    def under(self, band: Band) -> Any:
        """The space of a band; a new one takes about half a second for 100,000 vectors.

        Raises:
            BandError: it keeps nothing.
        """
        from fiftyone_isoclip.dataset.comparisons import in_band

        if band == WHOLE:
            return self.plain
        with _lock:
            if band not in self._bands:
                self._bands[band] = in_band(self.plain, band)
            self._bands.move_to_end(band)
            while len(self._bands) > MOST_BANDS:
                self._bands.popitem(last=False)
            return self._bands[band]


def find_space(dataset: fo.Dataset, name: str) -> LoadedSpace | None:
    """The space of a field if it has been read; a field that was made anew has not been."""
    with _lock:
        return _spaces.get(_key(dataset, name))


def load_space(dataset: fo.Dataset, name: str) -> LoadedSpace:
    """Read a field, also if it has been read before; the one read longest ago is forgotten.

    Raises:
        DatasetError: it cannot be read as plain embeddings.
        CheckpointError: the checkpoint cannot be loaded.
    """
    from fiftyone_isoclip.dataset.comparisons import open_plain

    n = dataset.count()
    samples = dataset if n <= MOST_SAMPLES else dataset.limit(MOST_SAMPLES)
    sums = tuple(sum_sources(dataset, name))
    plain = open_plain(samples, name)
    clip = plain.clip
    loaded = LoadedSpace(plain, clip.spectrum, clip.image_band, sums, max(0, n - MOST_SAMPLES))
    with _lock:
        _spaces[_key(dataset, name)] = loaded
        _spaces.move_to_end(_key(dataset, name))
        while len(_spaces) > MOST_SPACES:
            _spaces.popitem(last=False)
    return loaded


def is_outdated(dataset: fo.Dataset, name: str, loaded: LoadedSpace) -> bool:
    """Whether samples with vectors came or went, or were embedded anew, since the space was read.

    The database works it out, from what `embed` notes beside each vector; vectors written by
    something else, and files that changed without being embedded again, are not found.
    """
    return _sums(dataset.name, name, version_of(dataset)) != loaded.sums


@lru_cache(maxsize=MOST_SPACES)
def _sums(dataset: str, name: str, version: tuple[Any, ...]) -> tuple[int, ...]:
    """The checksums of a field, which are worked out again once anything has changed."""
    return tuple(sum_sources(fo.load_dataset(dataset), name))


def _key(dataset: fo.Dataset, name: str) -> tuple[Any, str, Origin]:
    return dataset._doc.id, name, need_origin(dataset, name)
