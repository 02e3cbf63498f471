"""What an evaluation on samples found: told in sentences, and kept as a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.runs import SavedRun, load_run

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.evaluate import Evaluation

METHOD = "evaluation"
DEFAULT_KEY = "evaluation"


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """How well images of the same label are found by plain CLIP, by bands and by the baselines.

    ``results`` are the means of every method with their intervals, the differences and the
    verdict, as `Evaluation.to_json` gives them. ``evaluation`` has the numbers of every query and
    makes the page; it is None of a report that was loaded. Of the samples, ``n_queries`` were
    asked about among ``n_compared``; ``n_skipped`` could not be, ``n_unlabelled`` of them for want
    of a label.
    """

    dataset: fo.Dataset = dataclasses.field(repr=False)
    key: str
    field: str
    label_field: str
    checkpoint: str
    band: str
    n_queries: int
    n_compared: int
    n_skipped: int
    n_unlabelled: int
    results: Mapping[str, Any] = dataclasses.field(repr=False)
    evaluation: Evaluation | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> str:
        """Which method is better and by how much, or that these samples do not show it."""
        return str(self.results["verdict"])

    @property
    def view(self) -> Any:
        """The queries, those that the band serves worst first."""
        return evaluation_view(self.dataset, self.key)

    def run(self, fingerprint: str, asked: Mapping[str, Any]) -> SavedRun:
        """What to remember of it, of the weights, and of what was asked for."""
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
                "unlabelled": self.n_unlabelled,
                "queries": self.n_queries,
            },
            details=self.results,
        )

    def __str__(self) -> str:
        return (
            f"{self.verdict} Images with the query's own {self.label_field!r} were sought for "
            f"{self.n_queries:,} queries in a gallery of {self.results['gallery']:,}; "
            f"{self.n_skipped:,} images were left out, {self.n_unlabelled:,} of them for want of "
            f"a label and {self.results.get('repeated', 0):,} because another file has their bytes."
        )


def load_evaluation(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> EvaluationReport:
    """What an earlier evaluation found.

    Raises:
        DatasetError: there is no such run.
    """
    run = load_run(dataset, key, METHOD)
    return EvaluationReport(
        dataset=dataset,
        key=key,
        field=run.parameters["field"],
        label_field=run.parameters["label_field"],
        checkpoint=run.checkpoint,
        band=run.band,
        n_queries=int(run.counts["queries"]),
        n_compared=int(run.counts["compared"]),
        n_skipped=int(run.counts["skipped"]),
        n_unlabelled=int(run.counts["unlabelled"]),
        results=run.details,
    )


def field_names(key: str) -> Mapping[str, str]:
    """The fields of an evaluation: a query's average precision in plain CLIP and in the band."""
    return {"plain": f"{key}_plain", "isoclip": f"{key}_isoclip"}


def evaluation_view(dataset: fo.Dataset, key: str) -> Any:
    """The queries of a run, those that the band serves worst first."""
    isoclip = field_names(key)["isoclip"]
    return dataset.match(F(isoclip).exists()).sort_by(isoclip)
