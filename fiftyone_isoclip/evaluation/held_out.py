"""Bands beside plain and mean-centred CLIP on images that none of them was chosen on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fiftyone_isoclip.evaluation.halves import jackknife
from fiftyone_isoclip.evaluation.methods import CENTRED, PLAIN
from fiftyone_isoclip.evaluation.metrics.bootstrap import Interval
from fiftyone_isoclip.evaluation.sweep import Ranking, mean_average_precision
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows, unit_rows
from fiftyone_isoclip.projector import WHOLE, Band, Spectrum


def is_plain(band: Band) -> bool:
    """Whether a band drops nothing: plain CLIP, or mean-centred plain CLIP."""
    return replace(band, centred=False) == WHOLE


def make_spaces(
    spectrum: Spectrum, units: Float32s, centre: Float64s, bands: list[Band]
) -> dict[str, Float32s]:
    """Plain CLIP, mean-centred CLIP and the bands: plain embeddings (n, r) as unit rows by name.

    ``centre`` (r,) is in units of embeddings of length 1.
    """
    spaces = {PLAIN: units, CENTRED: unit_rows(units - centre)}
    for band in bands:
        if not is_plain(band):
            mapping = spectrum.rewrite(replace(band, centred=False))[0]
            spaces[str(band)] = (mapping.centred_on(centre) if band.centred else mapping)(units)
    return spaces


def judge(
    spaces: Mapping[str, Float32s],
    best: str,
    labels: Rows,
    groups: Rows,
    rng: np.random.Generator,
) -> tuple[dict[str, Interval], list[Interval]]:
    """The mAP of each space; the best band less plain and less centred, centred less plain.

    Where ``best`` names no space, the differences of plain CLIP stand in its place. ``groups`` (n,)
    are what the intervals leave out together.
    """
    names, tables = list(spaces), [_cosines(space) for space in spaces.values()]
    plain, centred = names.index(PLAIN), names.index(CENTRED)
    chosen = names.index(best) if best in names else plain

    def measure(rows: Rows) -> Float64s:
        irrelevant = ~Ranking(np.arange(len(rows)), labels[rows]).relevant
        among = np.ix_(rows, rows)
        means = [mean_average_precision(table[among], irrelevant) for table in tables]
        pairs = ((chosen, plain), (chosen, centred), (centred, plain))
        return np.array([*means, *(means[one] - means[other] for one, other in pairs)])

    found = jackknife(measure, groups, rng)
    return dict(zip(names, found, strict=False)), found[len(names) :]


def _cosines(units: Float32s) -> Float64s:
    """Cosines between all rows (n, d) of length 1, -2 of each with itself: (n, n)."""
    exact = units.astype(np.float64)
    found = exact @ exact.T
    np.fill_diagonal(found, -2)
    return found
