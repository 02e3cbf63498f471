"""The report of a threshold guide: the similarities, and the edits that each one recognises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_isoclip.evaluation.report import Page, Plot, Table
from fiftyone_isoclip.files.threshold_guide import GuideRow, ThresholdGuide
from fiftyone_isoclip.index.binomial import LEVEL, Share
from fiftyone_isoclip.index.false_matches import STEPS, one_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SHOWN = 0.5
"""A curve begins where this share of all pairs is at or above the similarity."""


def guide_page(guide: ThresholdGuide, where: str) -> Page:
    """A threshold guide as a page; ``where`` names the images."""
    parts: list[Table | Plot] = [similarity_table(guide), Plot(*_curves(guide))]
    if len(guide.edits.rows):
        parts.insert(1, edit_table(guide))
    parameters = {
        "images": where,
        "different images": guide.rates.n,
        "checkpoint": guide.model,
        "band": guide.band,
        "rate of false matches asked for": guide.false_matches,
        "pictures edited": len(guide.edits.rows),
        "pictures that could not be edited": len(guide.edits.failed),
    }
    return Page(f"Threshold guide: {where}", guide.verdict, parts, parameters)


def row_cells(row: GuideRow) -> tuple[str, str, str, str, str]:
    """A row as words: similarity, false matches, their bounds, pairs here, recall."""
    share = row.false
    known = share.low == share.high
    return (
        f"{row.similarity:.4f}",
        row.chance,
        "all compared" if known else f"{one_in(share.low)} to {one_in(share.high)}",
        f"{row.pairs:,.0f}",
        "" if row.recall is None else f"{row.recall:.0%}",
    )


ROW_COLUMNS = ("similarity", "false matches", "95% bounds", "pairs here", "edits recognised")
"""What `row_cells` tells."""


def recall_cell(share: Share) -> str:
    """A recall and its bounds: ``93% (86-97)``."""
    low, high = round(100 * share.low), round(100 * share.high)
    return f"{share.share:.0%} ({low}\N{EN DASH}{high})"


def similarity_table(guide: ThresholdGuide) -> Table:
    """What each similarity means: false matches, and edits recognised."""
    how = "drawn at random" if guide.rates.drawn else "all there are"
    note = (
        f"False matches: the share of pairs of different images at or above the similarity, of "
        f"{guide.rates.compared:,} pairs compared ({how}). Near-copies among the images count as "
        "false matches, so of images that are really different it is no larger. It is told of "
        "these images; others may be more alike. Pairs here: how many of the "
        f"{guide.rates.pairs:,} pairs of these images that is. Edits recognised: the share of "
        "edited pictures at or above the similarity, each kind of edit counting the same."
    )
    return Table("Similarities", note, ROW_COLUMNS, [row_cells(row) for row in guide.rows])


def edit_table(guide: ThresholdGuide) -> Table:
    """Which edits each similarity recognises, by kind; none if no picture was edited."""
    kinds = list(guide.rows[0].by_kind)
    note = (
        f"The share of {len(guide.edits.rows):,} pictures, drawn at random, whose edited copy is "
        f"at or above the similarity, and its exact binomial bounds at {LEVEL:.0%}. Pictures are "
        "edited in memory; real copies are edited in other ways too."
    )
    columns = ["kind of edit", *(f"{row.similarity:.4f}" for row in guide.rows)]
    cells = [[kind, *(recall_cell(row.by_kind[kind]) for row in guide.rows)] for kind in kinds]
    return Table("Edits recognised, by kind", note, columns, cells)


def _curves(guide: ThresholdGuide) -> tuple[str, str, Callable[[Axes], None]]:
    shares = guide.rates.counts / guide.rates.compared
    shown = (shares <= _MOST_SHOWN) & (STEPS > -1)
    shares = np.where(shares > 0, shares, np.nan)  # a logarithm has no zero

    def draw(axes: Axes) -> None:
        axes.step(STEPS[shown], shares[shown], where="post", label="false matches (left scale)")
        axes.set(xlabel="similarity", ylabel="share of pairs at or above it", yscale="log")
        if guide.suggested is not None:
            axes.axvline(guide.suggested, linestyle="--", color="C4", label="suggested")
        if len(guide.edits.rows):
            every = np.sort(np.concatenate([*guide.edits.similarities.values()]))
            found = 1 - np.searchsorted(every, STEPS[shown].astype(np.float32)) / len(every)
            beside = axes.twinx()
            beside.set(ylim=(0, 1.02), ylabel="share of edited copies at or above it")
            beside.plot(STEPS[shown], found, color="C2")
            axes.plot([], [], color="C2", label="edits recognised (right scale)")
        axes.legend(loc="lower left")

    note = (
        "The share of pairs of different images, and of edited copies over all kinds of edit, at "
        "or above each similarity. Where the first ends, no pair is left."
    )
    return "False matches and edits by similarity", note, draw
