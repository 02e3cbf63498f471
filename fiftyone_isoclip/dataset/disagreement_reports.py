"""On which pairs of samples plain CLIP and a band disagree: told, and kept as a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.runs import SavedRun, load_run

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.space_pairs import SpacePairs

METHOD = "disagreements"
DEFAULT_KEY = "disagreements"


@dataclass(frozen=True, slots=True)
class DisagreementReport:
    """The pairs of samples that are near in plain CLIP and far in a band, or the other way round.

    ``found`` names samples by their ids. Of the samples asked for, ``n_skipped`` could not be
    compared.
    """

    dataset: fo.Dataset = dataclasses.field(repr=False)
    key: str
    field: str
    n_skipped: int
    found: SpacePairs

    @property
    def view(self) -> Any:
        """The samples of the pairs, the partners of the most disputed pair first."""
        return disagreement_view(self.dataset, self.key)

    def run(self, fingerprint: str, asked: Mapping[str, Any]) -> SavedRun:
        """What to remember of it, of the weights, and of what was asked for."""
        return SavedRun(
            key=self.key,
            method=METHOD,
            parameters=asked,
            checkpoint=self.found.checkpoint,
            fingerprint=fingerprint,
            band=self.found.band,
            counts={
                "pairs": len(self.found.pairs),
                "queries": self.found.n_queries,
                "compared": self.found.n_images,
                "skipped": self.n_skipped,
            },
            # Apart, because the run of a search for duplicates names its file of pairs "pairs".
            details={"verdict": self.found.verdict, "found": self.found.to_json()},
        )

    def __str__(self) -> str:
        return (
            f"{self.found.verdict} {len(self.found.pairs):,} pairs are in the saved view "
            f"{self.key!r}; {self.n_skipped:,} images could not be compared."
        )


def load_disagreements(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> DisagreementReport:
    """What an earlier search for disagreements found.

    Raises:
        DatasetError: there is no such run.
    """
    from fiftyone_isoclip.evaluation.space_pairs import SpacePairs

    run = load_run(dataset, key, METHOD)
    return DisagreementReport(
        dataset=dataset,
        key=key,
        field=run.parameters["field"],
        n_skipped=int(run.counts["skipped"]),
        found=SpacePairs.from_json(run.details["found"]),
    )


def field_names(key: str) -> Mapping[str, str]:
    """The fields of a run, each of a sample's most disputed pair.

    ``place`` is that in the view, ``factor`` is how many times further down the pair stands where
    it is far, and ``nearer_in`` names the space in which it is near.
    """
    return {part: f"{key}_{part}" for part in ("place", "factor", "nearer_in")}


def disagreement_view(dataset: fo.Dataset, key: str) -> Any:
    """The samples of a run's pairs, the partners of the most disputed pair first."""
    place = field_names(key)["place"]
    return dataset.match(F(place).exists()).sort_by(place)
