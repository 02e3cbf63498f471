"""What each similarity means for some images: false matches among them, and edits recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME, DEMO_NOTE
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.files.copies import Contents
from fiftyone_isoclip.files.edit_recall import DEFAULT_PICTURES, EditRecall, measure_edits
from fiftyone_isoclip.files.embeddings import Files, Progress, embed_files
from fiftyone_isoclip.files.reports import list_failures
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.index.binomial import Share
from fiftyone_isoclip.index.false_matches import (
    DEFAULT_FALSE_MATCHES,
    FalseMatches,
    check_asked,
    false_match_rates,
    one_in,
    similarity_for,
)
from fiftyone_isoclip.projector import Band

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The rates of false matches whose similarities are told, as far as the images can show them."""

_DEMO_NOTE = f" ({DEMO_NOTE})"

Told = Callable[[int, int], object]
"""Called with how much is done and in all."""


@dataclass(frozen=True, slots=True)
class GuideRow:
    """One similarity.

    Attributes:
        similarity: the cosine.
        false: the share of all pairs of different images at or above it.
        pairs: how many of this collection's pairs that is.
        recall: the share of edited pictures at or above it, each kind of edit counting the same;
            None if no picture was edited.
        by_kind: the share by kind of edit.
    """

    similarity: float
    false: Share
    pairs: float
    recall: float | None
    by_kind: Mapping[str, Share]

    @property
    def chance(self) -> str:
        """The share of pairs that match by chance, in words."""
        return one_in(self.false.share) if self.false.share else "none"


@dataclass(frozen=True, eq=False)
class ThresholdGuide:
    """How rare false matches are and how many edits are recognised, by similarity.

    ``suggested`` is the lowest similarity that keeps the rate ``false_matches``, None with the
    ``reason`` where these images cannot show it. ``rates`` and ``edits`` are what was measured.
    """

    model: str
    band: str
    false_matches: float
    suggested: float | None
    reason: str
    rows: tuple[GuideRow, ...]
    rates: FalseMatches
    edits: EditRecall

    @property
    def verdict(self) -> str:
        """What follows from it, in sentences that say no more than was measured."""
        model = f"{self.model}{_DEMO_NOTE if self.model == DEMO_NAME else ''}"
        with_what = f"Measured with {model}, band {self.band}, on {self.rates.n:,} different images"
        if self.suggested is None:
            return f"No similarity can be suggested. {self.reason} {with_what}."
        row = next(row for row in self.rows if row.similarity == self.suggested)
        drawn = " (drawn at random)" if self.rates.drawn else ""
        told = (
            f"From similarity {self.suggested:g} on at most {one_in(self.false_matches)} pairs "
            f"match by chance: {row.chance} of {self.rates.compared:,} pairs compared"
            f"{drawn}, near-copies among them counted as chance."
        )
        if row.recall is not None:
            weakest = min(row.by_kind, key=lambda kind: row.by_kind[kind].share)
            told += (
                f" Of edited copies {row.recall:.0%} are recognised there, of the hardest kind "
                f"({weakest}) {row.by_kind[weakest].share:.0%}."
            )
        return f"{told} {with_what}, {len(self.edits.rows):,} of them edited."

    def __str__(self) -> str:
        return self.verdict

    def to_json(self) -> dict[str, Any]:
        """The guide as JSON values."""
        return {
            "model": self.model,
            "band": self.band,
            "false_matches": self.false_matches,
            "suggested": self.suggested,
            "reason": self.reason,
            "verdict": self.verdict,
            "images": self.rates.n,
            "pairs": self.rates.pairs,
            "compared": self.rates.compared,
            "drawn": self.rates.drawn,
            "edited": len(self.edits.rows),
            "failed": list_failures(self.edits.failed),
            "rows": [asdict(row) for row in self.rows],
        }


def make_guide(
    rates: FalseMatches, edits: EditRecall, *, model: str, band: str, false_matches: float
) -> ThresholdGuide:
    """Put together what was counted over pairs and what was measured on edits."""
    suggested, reason = None, ""
    try:
        suggested = similarity_for(rates, false_matches)
    except VectorError as error:
        reason = str(error)
    told = {DEFAULT_SIMILARITY} | ({suggested} if suggested is not None else set())
    for rate in RATES:
        if rates.least_rate <= rate and rates.rate_at(1.0).high <= rate:
            told.add(similarity_for(rates, rate))
    rows = tuple(_row(similarity, rates, edits) for similarity in sorted(told))
    return ThresholdGuide(model, band, false_matches, suggested, reason, rows, rates, edits)


def guide_file_thresholds(
    files: Files,
    clip: Clip,
    *,
    band: Band | None = None,
    false_matches: float | None = None,
    pictures: int = DEFAULT_PICTURES,
    progress: Progress | None = None,
    comparing: Told | None = None,
    editing: Told | None = None,
) -> ThresholdGuide:
    """Say what each similarity means for these files under a band, and which one to choose.

    ``band`` is the checkpoint's own by default. ``false_matches`` is the share of all pairs that
    may match by chance, 1 in 10,000 if None; ``pictures`` how many are edited, drawn at random,
    always the same. Files of the same bytes count once. ``progress`` follows the embedding,
    ``comparing`` the pairs and ``editing`` the edits.

    Raises:
        IsoClipError: the band or the rate is not a possible one, or there are no two images.
    """
    allowed = check_guide(false_matches, pictures)
    band = clip.image_band if band is None else band
    embedding_map = clip.isoclip(band)
    embedded = embed_files(files, clip, progress=progress)
    paths = embedded.embedded_paths
    firsts = Contents.of(paths).first_rows
    rates = false_match_rates(embedding_map(embedded.embeddings[firsts]), told=comparing)
    edits = measure_edits(
        [paths[row] for row in firsts], clip, embedding_map, pictures=pictures, progress=editing
    )
    model = clip.checkpoint.name
    return make_guide(rates, edits, model=model, band=str(band), false_matches=allowed)


def check_guide(false_matches: float | None, pictures: int) -> float:
    """Give the rate back that is asked for, before the work.

    Raises:
        VectorError: it is no share, or a negative number of pictures was to be edited.
    """
    check_asked("auto", false_matches)
    if pictures < 0:
        raise VectorError(f"{pictures} pictures were to be edited; ask for 0 or more.")
    return DEFAULT_FALSE_MATCHES if false_matches is None else false_matches


def _row(similarity: float, rates: FalseMatches, edits: EditRecall) -> GuideRow:
    false, by_kind = rates.rate_at(similarity), edits.by_kind(similarity)
    recall = float(np.mean([share.share for share in by_kind.values()])) if by_kind else None
    return GuideRow(similarity, false, false.share * rates.pairs, recall, by_kind)
