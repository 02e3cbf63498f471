"""Methods on the same queries: which is best, and whether a band can be told from it.

Nothing here may say more than was measured: who wins stands first, whoever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME, DEMO_NOTE
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.methods import PLAIN
from fiftyone_isoclip.evaluation.metrics.bootstrap import DEFAULT_LEVEL, Interval
from fiftyone_isoclip.evaluation.scores import DECISIVE, MethodScores, Sampling, interval_json

FEWEST_QUERIES = 20
"""Of fewer independent queries no winner is named: a bootstrap interval of them is too narrow."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better a band is than a baseline on the same queries, by `DECISIVE`.

    ``level`` is the confidence of the interval, in (0, 1).
    """

    band: str
    baseline: str
    interval: Interval
    level: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        named = {"band": self.band, "baseline": self.baseline, "metric": DECISIVE}
        return named | interval_json(self.interval) | {"level": self.level}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods on the same queries, and each band less the best baseline and less plain CLIP.

    The best baseline is the best of all methods that are no band, on these same queries: that is
    hard on the bands. The intervals of the differences to either hold for all bands together
    (Bonferroni), since the best of several bands is looked at. ``n_independent`` is how many
    queries, or groups of queries, were asked independently and have something to be found.
    """

    n_independent: int
    methods: tuple[MethodScores, ...]
    to_best: tuple[Difference, ...]
    to_plain: tuple[Difference, ...]

    @classmethod
    def between(cls, methods: Sequence[MethodScores], sampling: Sampling) -> Comparison:
        """Compare every band with the best baseline and with plain CLIP.

        Raises:
            IsoClipError: there is no band, or fewer than two queries have anything to be found.
        """
        scored = ~np.isnan(methods[0].values[DECISIVE])
        groups = np.arange(len(scored)) if sampling.groups is None else sampling.groups
        made = cls(len(np.unique(groups[scored])), tuple(methods), (), ())
        if not made.bands:
            raise IsoClipError("no band was given to compare with the baselines; give one or more")
        n = made.n_scored
        if n < 2:
            raise IsoClipError(
                f"{n} of the queries have something of their own label to be found; two or more "
                "are needed to compare methods: label more images, or give another gallery"
            )
        jointly = 1 - (1 - DEFAULT_LEVEL) / len(made.bands)
        return cls(
            made.n_independent,
            made.methods,
            made._less(made.best_baseline, jointly, sampling),
            made._less(made.of(PLAIN), jointly, sampling),
        )

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Those to the best baseline, then those to plain CLIP where that is another method."""
        is_plain = self.best_baseline.name == PLAIN
        return self.to_best if is_plain else (*self.to_best, *self.to_plain)

    @property
    def bands(self) -> list[MethodScores]:
        """The bands, centred ones among them."""
        return [method for method in self.methods if method.kind == "band"]

    @property
    def best_band(self) -> MethodScores:
        """The band with the highest mean."""
        return max(self.bands, key=MethodScores.mean)

    @property
    def best_baseline(self) -> MethodScores:
        """The best of what is no band, plain CLIP included."""
        others = [method for method in self.methods if method.kind != "band"]
        return max(others, key=MethodScores.mean)

    @property
    def n_scored(self) -> int:
        """How many queries have something to be found."""
        return int(np.count_nonzero(~np.isnan(self.methods[0].values[DECISIVE])))

    def tells(self, difference: Difference) -> bool:
        """Whether a difference can be told from none on these queries."""
        return difference.interval.excludes_zero and self.n_independent >= FEWEST_QUERIES

    def of(self, name: str) -> MethodScores:
        """The scores of a method by its name.

        Raises:
            IsoClipError: there is none of that name.
        """
        for method in self.methods:
            if method.name == name:
                return method
        known = ", ".join(method.name for method in self.methods)
        raise IsoClipError(f"no method is called {name!r}; there are {known}")

    def verdict(self, checkpoint: str, over: str) -> str:
        """Who is better and by how much, or that these queries do not show it: one line.

        ``over`` says what the means are over.
        """
        band, baseline = self.best_band, self.best_baseline
        found = next(each.interval for each in self.to_best if each.band == band.name)
        one = f"{band.name} ({DECISIVE} {band.mean():.3f})"
        other = f"{baseline.name} ({DECISIVE} {baseline.mean():.3f})"
        several = len(self.bands) > 1
        if self.n_independent < FEWEST_QUERIES:
            few = f"Too few independent queries ({self.n_independent}) to tell"
            told = f"{few} {one} from the best baseline, {other}"
        elif found.low > 0:
            told = f"{one} is better than every baseline, the best of which is {other}"
        elif found.high < 0:
            beaten = f"every band tried, the best of which is {one}" if several else one
            told = f"{_capital(other)} is better than {beaten}"
        else:
            told = f"No measurable difference between {one} and the best baseline, {other}"
        return (
            f"{told}: the band less the baseline is {signed(found)}, over {over}. Measured with "
            f"{made_by(checkpoint)}."
        )

    def _less(
        self, other: MethodScores, level: float, sampling: Sampling
    ) -> tuple[Difference, ...]:
        """Each band less another method, query by query."""
        theirs = other.values[DECISIVE]
        return tuple(
            Difference(
                band.name,
                other.name,
                sampling.difference(band.values[DECISIVE], theirs, level),
                level,
            )
            for band in self.bands
        )


def made_by(checkpoint: str) -> str:
    """A checkpoint as every verdict names it."""
    if checkpoint == DEMO_NAME:
        return f"{checkpoint}: {DEMO_NOTE}"
    return checkpoint


def signed(found: Interval) -> str:
    """A difference with its interval, as ``+0.012 [+0.003, +0.021]``, or without any."""
    ends = "" if isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.mean:+.3f}{ends}"


def _capital(name: str) -> str:
    """A name as the first word of a sentence; pHash stays as it is."""
    return name if name[1:2].isupper() else name[0].upper() + name[1:]
