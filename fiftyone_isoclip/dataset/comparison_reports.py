"""What a comparison of plain CLIP with a band found: told in sentences, and kept as a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.runs import SavedRun, load_run
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME, DEMO_NOTE

METHOD = "comparison"
DEFAULT_KEY = "comparison"
DEFAULT_NEIGHBORS = 10

PLAIN = "plain CLIP"
CENTRED = "mean-centred plain CLIP"

_DEMO_NOTE = f" ({DEMO_NOTE})"


@dataclass(frozen=True, slots=True)
class LabelPrecision:
    """How many of the neighbours have the label of their query: means over queries, in [0, 1].

    ``isoclip`` is the band's, ``plain`` that of plain CLIP, ``centred`` that of plain CLIP less its
    mean, the cheapest remedy there is. ``error`` is the standard error of the difference between
    ``isoclip`` and the better of the other two, over the ``queries`` that have a label.
    """

    label_field: str
    queries: int
    isoclip: float
    plain: float
    centred: float
    error: float

    @property
    def baseline(self) -> tuple[str, float]:
        """The better of plain and mean-centred plain CLIP, and its precision."""
        return max((PLAIN, self.plain), (CENTRED, self.centred), key=lambda named: named[1])

    def told(self, band: str) -> str:
        """Which space is better and by how much, or that these samples do not show it."""
        name, best = self.baseline
        margin = abs(self.isoclip - best)
        by = f"by {margin:.3f} (standard error {self.error:.3f})"
        if margin <= 2 * self.error or margin == 0:
            verdict = f"These samples show no better space: {name} and band {band} differ {by}"
        elif best > self.isoclip:
            verdict = f"{name[0].upper()}{name[1:]} is better than band {band} {by}"
        else:
            verdict = f"Band {band} is better than {name} {by}"
        return (
            f"{verdict}. Share of neighbours with the query's own {self.label_field!r}, over "
            f"{self.queries:,} labelled queries: {PLAIN} {self.plain:.3f}, {CENTRED} "
            f"{self.centred:.3f}, band {band} {self.isoclip:.3f}."
        )


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """How far the neighbours of plain CLIP and of a band agree, and which have the right labels.

    ``overlap`` is the mean share, in [0, 1], of the ``k`` nearest neighbours that both spaces have
    in common, over ``queries`` of the ``n_compared`` samples. ``precision`` is None without labels.
    """

    dataset: fo.Dataset = field(repr=False)
    key: str
    field: str
    checkpoint: str
    band: str
    k: int
    n_compared: int
    n_skipped: int
    queries: int
    overlap: float
    precision: LabelPrecision | None = None

    @property
    def view(self) -> Any:
        """The queries, those where the two spaces have least in common first."""
        return comparison_view(self.dataset, self.key)

    def run(self, fingerprint: str, asked: Mapping[str, Any]) -> SavedRun:
        """What to remember of it, of the weights, and of what was asked for."""
        precision = self.precision
        return SavedRun(
            key=self.key,
            method=METHOD,
            parameters=asked,
            checkpoint=self.checkpoint,
            fingerprint=fingerprint,
            band=self.band,
            counts={
                "compared": self.n_compared,
                "skipped": self.n_skipped,
                "queries": self.queries,
            },
            details={
                "k": self.k,
                "overlap": self.overlap,
                "precision": None if precision is None else asdict(precision),
            },
        )

    def __str__(self) -> str:
        made_by = f"{self.checkpoint}{_DEMO_NOTE if self.checkpoint == DEMO_NAME else ''}"
        picked = "" if self.queries == self.n_compared else " picked at random"
        labels = "" if self.precision is None else f"{self.precision.told(self.band)} "
        return (
            f"{labels}{PLAIN[0].upper()}{PLAIN[1:]} and band {self.band} have {self.overlap:.0%} "
            f"of the {self.k} nearest neighbours in common, on average over {self.queries:,} "
            f"queries{picked} among {self.n_compared:,} images; {self.n_skipped:,} images could "
            f"not be compared. Measured with {made_by}."
        )


def load_comparison(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> ComparisonReport:
    """What an earlier comparison found.

    Raises:
        DatasetError: there is no such run.
    """
    run = load_run(dataset, key, METHOD)
    precision = run.details["precision"]
    return ComparisonReport(
        dataset=dataset,
        key=key,
        field=run.parameters["field"],
        checkpoint=run.checkpoint,
        band=run.band,
        k=run.details["k"],
        n_compared=int(run.counts["compared"]),
        n_skipped=int(run.counts["skipped"]),
        queries=int(run.counts["queries"]),
        overlap=run.details["overlap"],
        precision=None if precision is None else LabelPrecision(**precision),
    )


def overlap_field(key: str) -> str:
    """The field of a comparison: the share of neighbours in common, in [0, 1]."""
    return f"{key}_overlap"


def comparison_view(dataset: fo.Dataset, key: str) -> Any:
    """The queries of a run, those where the two spaces have least in common first."""
    overlap = overlap_field(key)
    return dataset.match(F(overlap).exists()).sort_by(overlap)
