"""A reproduction in one line; a figure of the paper stands only beside the paper's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.evaluation.comparison import FEWEST_QUERIES, made_by
from fiftyone_isoclip.evaluation.methods import Kind
from fiftyone_isoclip.evaluation.metrics.bootstrap import Interval
from fiftyone_isoclip.evaluation.reproduction_results import Measured, Reproduction, SetResult
from fiftyone_isoclip.evaluation.scores import OWN_GALLERY
from fiftyone_isoclip.evaluation.set_scores import MAP
from fiftyone_isoclip.index.vectors import Float64s

_DEVIATES = 1.959964
"""Standard deviations of a normal distribution that 95 % lie within."""


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean mAP of a method over the image sets that were measured, in percent.

    ``paper`` is the mean of the paper's figures on the same sets.
    """

    name: str
    kind: Kind
    value: float
    paper: float | None


def find_means(reproduction: Reproduction) -> list[Mean]:
    """The mean of each method over the sets of images; empty if there are none."""
    of_kind: dict[Kind, list[Measured]] = {}
    for result in image_results(reproduction):
        for measured in result.measured:
            of_kind.setdefault(measured.kind, []).append(measured)
    means = []
    for kind, found in of_kind.items():
        papers = [measured.paper for measured in found if measured.paper is not None]
        paper = float(np.mean(papers)) if len(papers) == len(found) else None
        value = float(np.mean([measured.metrics[MAP] for measured in found]))
        means.append(Mean(found[0].method, kind, value, paper))
    return means


def verdict(reproduction: Reproduction) -> str:
    """Who is better on these sets, and how far from the paper that is: one line.

    Of a set with fewer than ``FEWEST_QUERIES`` queries nobody knows how far its mean is off, so
    that no winner is named over it.
    """
    means = find_means(reproduction)
    if not means:
        return f"No set of images was measured with {made_by(reproduction.checkpoint.name)}."
    sets = image_results(reproduction)
    band = next(mean for mean in means if mean.kind == "band")
    other = max((mean for mean in means if mean.kind != "band"), key=lambda mean: mean.value)
    gains = {result.name: _gains(result, other.kind) for result in sets}
    few = {name: len(found) for name, found in gains.items() if len(found) < FEWEST_QUERIES}
    difference = _difference(sets, gains)
    ends = "" if few else f" [{difference.low:+.2f}, {difference.high:+.2f}]"
    one, two = (f"{mean.name} (mAP {mean.value:.1f} %)" for mean in (band, other))
    if few:
        counts = ", ".join(f"{name}: {n}" for name, n in few.items())
        told = f"Too few queries ({counts}) to tell {one} from {two}"
    elif difference.low > 0:
        told = f"{one} is better than {two}"
    elif difference.high < 0:
        told = f"{two} is better than {one}"
    else:
        told = f"No measurable difference between {one} and {two}"
    over = f"{len(sets)} sets" if len(sets) > 1 else f"the set {sets[0].name}"
    return (
        f"{told}: {difference.mean:+.2f}{ends} percent points, mean over {over}. "
        f"{_beside_the_paper(reproduction, means)}"
    )


def image_results(reproduction: Reproduction) -> list[SetResult]:
    """Those that the paper's table is about, and the means are of."""
    return [result for result in reproduction.results if not result.of_texts]


def _gains(result: SetResult, other: Kind) -> Float64s:
    """IsoCLIP less another method, query by query, in percent points; without what is left out."""
    precision = {each.kind: each.average_precision for each in result.measured}
    gains = 100 * (precision["band"] - precision[other])
    return gains[~np.isnan(gains)]


def _difference(sets: Sequence[SetResult], gains: Mapping[str, Float64s]) -> Interval:
    """The mean gain over the sets, in percent points.

    The interval is of the normal distribution: it is of the luck of the queries of each set, not
    of that of the sets. The part of a set whose queries are its gallery is widened, see
    `OWN_GALLERY`.
    """
    means, variances = [], []
    for result in sets:
        found = gains[result.name]
        widen = 1.0 if result.is_apart else OWN_GALLERY
        means.append(found.mean())
        variances.append(widen**2 * found.var(ddof=1) / len(found) if len(found) > 1 else np.inf)
    mean = float(np.mean(means))
    reach = _DEVIATES * float(np.sqrt(np.sum(variances))) / len(sets)
    return Interval(mean, mean - reach, mean + reach)


def _beside_the_paper(reproduction: Reproduction, means: Sequence[Mean]) -> str:
    told = [
        f"{mean.name} {mean.value:.1f} against {mean.paper:.1f} ({mean.value - mean.paper:+.1f})"
        for mean in means
        if mean.paper is not None
    ]
    name = reproduction.checkpoint.name
    if not told:
        return f"Measured with {made_by(name)}; no figure of the paper is of this checkpoint."
    return f"{name} beside the paper's {reproduction.backbone} on the same sets: {', '.join(told)}."
