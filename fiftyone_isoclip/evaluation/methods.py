"""The ways of comparing embeddings that are measured beside each other: bands and baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf_shrinkage

from fiftyone_isoclip.errors import IsoClipError, VectorError
from fiftyone_isoclip.index.vectors import Float32s, Float64s, unit_rows
from fiftyone_isoclip.projector import Band, EmbeddingMap, Spectrum

Side = Literal["image", "text"]
Kind = Literal["plain", "baseline", "band", "inversion", "hash"]
Sides = tuple[Float32s, Float32s]

PLAIN = "plain CLIP"
CENTRED = "mean-centred plain CLIP"

RANDOM_BANDS = 3
"""Draws of a random band of each size: one alone could be a lucky one."""

_ALIKE = 1e-6
_FLOOR = 1e-6
"""Of the mean variance: whitening takes no direction for narrower, whatever the shrinkage, and
where it is less, embeddings do not differ."""


@dataclass(frozen=True, eq=False)
class Method:
    """One way to compare queries with a gallery: by the cosines of these rows.

    Shapes: ``queries`` (n, d) and ``gallery`` (m, d), rows of length 1. ``note`` says how they
    were made, ``seconds_per_query`` is None where nobody measured it.
    """

    name: str
    kind: Kind
    queries: Float32s
    gallery: Float32s
    note: str = ""
    seconds_per_query: float | None = None


def distinct_bands(bands: Iterable[Band | str], rank: int) -> list[Band]:
    """The bands to measure, each once and none centred: all are measured centred and not.

    Raises:
        BandError: a band cannot be read, or keeps none of ``rank`` directions.
    """
    read = [Band.parse(band) if isinstance(band, str) else band for band in bands]
    distinct = list(dict.fromkeys(replace(band, centred=False) for band in read))
    for band in distinct:
        band.count(rank)
    return distinct


def make_methods(
    spectrum: Spectrum,
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    bands: Sequence[Band],
    *,
    fit_on: npt.ArrayLike | None = None,
    side: Side = "image",
    seed: int = 0,
) -> list[Method]:
    """Plain CLIP, each band with and without centring, and the baselines that ask for no labels.

    The baselines are mean-centred plain CLIP, all-but-the-top, whitening, and random bands of
    the size of each band. Whatever is fitted is fitted on one set of embeddings, which is the
    gallery by default: never on labels, and on queries where they are of that gallery.

    Args:
        spectrum: of the checkpoint that made the embeddings.
        queries: plain embeddings (n, r) of any scale.
        gallery: plain embeddings (m, r) of any scale.
        bands: which to try; the counts alone matter, each is tried centred and not.
        fit_on: plain embeddings (f, r) to fit the baselines on instead of the gallery.
        side: whether all of them are of images or of texts.
        seed: of the random bands.

    Raises:
        IsoClipError: the side is neither.
        BandError: a band keeps nothing.
        VectorError: the dims differ, a row has no direction, or there are fewer than two
            different embeddings to fit on.
    """
    if side not in get_args(Side):
        raise IsoClipError(f'side={side!r} was asked for; use "image" or "text"')
    rows = (unit_rows(queries), unit_rows(gallery))
    if fit_on is None:
        fitted = _Fit.on(rows[1], "the gallery")
    else:
        fitted = _Fit.on(unit_rows(fit_on), "the embeddings given to fit on")
    _check_dims(spectrum, *rows, fitted.units)
    counts = distinct_bands(bands, spectrum.rank)
    return [
        Method(PLAIN, "plain", *rows),
        *fitted.baselines(rows),
        *_random_bands(spectrum, counts, rows, side, seed),
        *_bands(spectrum, counts, rows, side, fitted),
    ]


@dataclass(frozen=True, eq=False)
class _Fit:
    """Mean (r,) of the embeddings at length 1 that baselines are fitted on, and their spread."""

    units: Float64s
    centre: Float64s
    whose: str

    @classmethod
    def on(cls, units: Float32s, whose: str) -> _Fit:
        if len(units) < 2 or np.ptp(units, axis=0).max() < _ALIKE:
            raise VectorError(
                f"baselines were to be fitted on {whose}, which has fewer than two different rows; "
                "give more"
            )
        exact = units.astype(np.float64)
        return cls(exact, exact.mean(axis=0), whose)

    @cached_property
    def axes(self) -> tuple[Float64s, Float64s]:
        """Variances (r,) and principal directions (r, r) in its columns, the largest first."""
        away = self.units - self.centre
        values, vectors = np.linalg.eigh(away.T @ away / len(away))
        return values[::-1], vectors[:, ::-1]

    @cached_property
    def rank(self) -> int:
        """In how many directions the embeddings differ."""
        variances, _ = self.axes
        return int(np.count_nonzero(variances > _FLOOR * variances.mean()))

    def baselines(self, rows: Sides) -> Iterable[Method]:
        """Centring, all-but-the-top and whitening: each is a linear map of ``e / |e| - mean``.

        There is no all-but-the-top of embeddings that differ in one direction alone.
        """
        dim = len(self.centre)
        mean = f"the mean of {self.whose} taken off embeddings of length 1"
        yield self._made(CENTRED, rows, np.eye(dim), mean)
        variances, axes = self.axes
        # Of few rows all directions would be the top, and what is left the noise of rounding.
        if top := min(max(1, dim // 100), self.rank // 2):
            rest = np.eye(dim) - axes[:, :top] @ axes[:, :top].T
            without = f"{mean}, then its {top} principal directions of most variance "
            yield self._made("all-but-the-top", rows, rest, without + "(Mu & Viswanath)")
        shrinkage = float(ledoit_wolf_shrinkage(self.units))
        shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
        whitened = f"{mean}, then whitened; covariance shrunk by {shrinkage:.3g} "
        white = axes / np.sqrt(np.maximum(shrunk, _FLOOR * variances.mean()))
        yield self._made("whitening", rows, white, whitened + "(Ledoit & Wolf)")

    def _made(self, name: str, rows: Sides, matrix: Float64s, note: str) -> Method:
        moved = _both(lambda side: unit_rows((side - self.centre) @ matrix), rows)
        return Method(name, "baseline", *moved, note)


def timed(methods: Sequence[Method], seconds: Mapping[str, float]) -> list[Method]:
    """The methods with the seconds a query that were measured of some, by name."""
    return [
        replace(method, seconds_per_query=seconds.get(method.name, method.seconds_per_query))
        for method in methods
    ]


def _check_dims(spectrum: Spectrum, *tables: npt.NDArray[Any]) -> None:
    for table in tables:
        if table.shape[1] != spectrum.image.dim:
            raise VectorError(
                f"embeddings of dim {table.shape[1]} were given with a spectrum of dim "
                f"{spectrum.image.dim}; take both from the same checkpoint"
            )


def _both(mapping: Callable[[Float32s], Float32s], rows: Sides) -> Sides:
    queries, gallery = rows
    return mapping(queries), mapping(gallery)


def _random_bands(
    spectrum: Spectrum,
    bands: Iterable[Band],
    rows: Sides,
    side: Side,
    seed: int,
) -> Iterable[Method]:
    """As many directions of Psi as a band keeps, drawn at random; bands of one size share them."""
    for size, band in {band.count(spectrum.rank): band for band in bands}.items():
        for draw in range(1, RANDOM_BANDS + 1):
            rng = np.random.default_rng([seed, size, draw])
            kept = np.sort(rng.choice(spectrum.rank, size, replace=False))
            if side == "image":
                head, directions = spectrum.image, spectrum.image_directions
            else:
                head, directions = spectrum.text, spectrum.text_directions
            mapping = EmbeddingMap.of_directions(head, directions[:, kept], band)
            yield Method(
                f"random band of equal size ({size} directions, draw {draw})",
                "baseline",
                *_both(mapping, rows),
                f"{size} of the {spectrum.rank} directions at random, seed {seed}",
            )


def _bands(
    spectrum: Spectrum,
    bands: Iterable[Band],
    rows: Sides,
    side: Side,
    fitted: _Fit,
) -> Iterable[Method]:
    for band in bands:
        image, text = spectrum.rewrite(band)
        mapping = image if side == "image" else text
        kept = f"{mapping.dim} of {spectrum.rank} directions"
        yield Method(f"IsoCLIP {band}", "band", *_both(mapping, rows), kept)
        centred = mapping.centred_on(fitted.centre)
        note = f"{kept}, after the mean of {fitted.whose} is taken off embeddings of length 1"
        yield Method(f"IsoCLIP {band}, centred", "band", *_both(centred, rows), note)
