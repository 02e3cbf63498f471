"""Which band suits samples, as it was found: told in sentences, and kept as a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from fiftyone_isoclip.dataset.runs import SavedRun, load_run
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import WHOLE, Band

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.tuning import Tuning

METHOD = "tuning"
DEFAULT_KEY = "tuning"


@dataclass(frozen=True, slots=True)
class TuningReport:
    """Whether a band suits the samples better than plain CLIP: a suggestion, no default changes.

    ``results`` are the verdict, the figures of the images held out and the mAP of every band, as
    `tuning_json` gives them. ``tuning`` has them as arrays and makes the page; it is None of a
    report that was loaded. ``n_compared`` samples were there to use, ``n_skipped`` had no
    embedding or have changed, and ``n_unreadable`` could not be edited.
    """

    dataset: fo.Dataset = dataclasses.field(repr=False)
    key: str
    field: str
    checkpoint: str
    n_compared: int
    n_skipped: int
    n_unreadable: int
    results: Mapping[str, Any] = dataclasses.field(repr=False)
    tuning: Tuning | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def recommended(self) -> Band:
        """The band to use, 0/0 to keep plain CLIP."""
        return Band.parse(self.results["recommended"])

    @property
    def verdict(self) -> str:
        """Which band to take and what it gains, or that plain CLIP is to be kept."""
        return str(self.results["verdict"])

    def run(self, fingerprint: str, asked: Mapping[str, Any]) -> SavedRun:
        """What to remember of it, of the weights, and of what was asked for."""
        return SavedRun(
            key=self.key,
            method=METHOD,
            parameters=asked,
            checkpoint=self.checkpoint,
            fingerprint=fingerprint,
            band=str(WHOLE),  # what was read: no band, and no fitted centre
            counts={
                "compared": self.n_compared,
                "skipped": self.n_skipped,
                "unreadable": self.n_unreadable,
                "queries": self.results["images"]["queries held out"],
            },
            details=self.results,
        )

    def __str__(self) -> str:
        unread = f", {self.n_unreadable:,} could not be edited" if self.n_unreadable else ""
        return (
            f"{self.verdict} {self.n_skipped:,} images of {self.n_compared + self.n_skipped:,} "
            f"could not be compared{unread}."
        )


def load_tuning(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> TuningReport:
    """What an earlier tuning found.

    Raises:
        DatasetError: there is no such run.
    """
    run = load_run(dataset, key, METHOD)
    return TuningReport(
        dataset=dataset,
        key=key,
        field=run.parameters["field"],
        checkpoint=run.checkpoint,
        n_compared=int(run.counts["compared"]),
        n_skipped=int(run.counts["skipped"]),
        n_unreadable=int(run.counts["unreadable"]),
        results=run.details,
    )


def check_ways(label_field: str | None, words: Sequence[str] | None, copies: bool) -> None:
    """Make sure that exactly one way to tell which images belong together is given.

    Raises:
        DatasetError: none is, or several are.
    """
    given = sum([bool(label_field), words is not None, copies])
    if given != 1:
        raise DatasetError(
            f"{given} of labels, words and edited copies were given to tell which images belong "
            "together; give exactly one of them"
        )
