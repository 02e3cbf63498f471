"""What a threshold guide found on samples, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone import ViewField as F

if TYPE_CHECKING:
    from fiftyone_isoclip.files.threshold_guide import ThresholdGuide

METHOD = "thresholds"
DEFAULT_KEY = "thresholds"


@dataclass(frozen=True, eq=False)
class ThresholdReport:
    """A guide and where it is kept; ``skipped`` maps samples that could not be compared to why."""

    dataset: fo.Dataset = field(repr=False)
    key: str
    guide: ThresholdGuide = field(repr=False)
    skipped: dict[str, str]

    @property
    def suggested(self) -> float | None:
        """The similarity to use, None where these samples cannot show one."""
        return self.guide.suggested

    @property
    def view(self) -> Any:
        """The pictures that were edited, those that are recognised least first."""
        return guide_view(self.dataset, self.key)

    def __str__(self) -> str:
        return self.guide.verdict


def recall_field(key: str) -> str:
    """The field of a guide: the share of a picture's edited copies that are recognised."""
    return f"{key}_recall"


def guide_view(dataset: fo.Dataset, key: str) -> Any:
    """The pictures that a run edited, those that are recognised least first."""
    recall = recall_field(key)
    return dataset.match(F(recall).exists()).sort_by(recall)
