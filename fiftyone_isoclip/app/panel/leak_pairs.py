"""The pairs of two splits, side by side, a few at a time."""

from __future__ import annotations

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Context, recall
from fiftyone_isoclip.dataset.leak_pairs import LeakPair, LeakSide
from fiftyone_isoclip.dataset.leak_report import LeakReport

CELL, AT = "leaks_cell", "leaks_at"
"""Under which names the panel remembers the two splits, and how many pairs were passed."""

A_PAGE = 6
A_ROW = 2
BUTTONS_A_ROW = 3
MOST_BUTTONS = 24
"""Of many splits, those that have most in common; the table opens the others."""


def draw_cell(ctx: Context, page: Page, report: LeakReport) -> None:
    """Draw a button for each two splits with pairs, and the pairs of those that were opened."""
    page.heading("Pairs")
    counts = {
        (one, other): report.matrix.pairs_of(one, other)
        for place, one in enumerate(report.splits)
        for other in report.splits[place + 1 :]
        if report.matrix.pairs_of(one, other)
    }
    cells = sorted(counts, key=lambda cell: -counts[cell])
    opened = recall(ctx, CELL)
    for start in range(0, min(len(cells), MOST_BUTTONS), BUTTONS_A_ROW):
        row = page.row()
        for one, other in cells[start : start + BUTTONS_A_ROW]:
            label = f"{one} and {other}: {counts[one, other]:,} pairs"
            is_open = set(opened or ()) == {one, other}
            row.button(label, "open_cell", primary=is_open, one=one, other=other)
    if opened is None or not {tuple(opened), tuple(reversed(opened))} & counts.keys():
        page.say("Click a cell of the table, or one of these buttons, to see the pairs.")
        return
    _draw_pairs(ctx, page, report, *opened)


def _draw_pairs(ctx: Context, page: Page, report: LeakReport, one: str, other: str) -> None:
    at = int(recall(ctx, AT, 0))
    listed = (other, one) if one in report.others else (one, other)
    total = report.matrix.images_of(*listed)
    pairs = report.pairs(one, other, A_PAGE, at)
    row = page.row()
    row.button("Previous", "turn", at=at - A_PAGE, disabled=at == 0)
    row.button("Next", "turn", at=at + A_PAGE, disabled=at + A_PAGE >= total, primary=True)
    last = min(at + A_PAGE, total)
    row.say(f"{at + 1} to {last} of {total:,} images of {listed[0]}, each with its most similar "
            f"of {listed[1]}")  # fmt: skip
    for start in range(0, len(pairs), A_ROW):
        row = page.row()
        for pair in pairs[start : start + A_ROW]:
            _draw_pair(row.card(), pair)
    if not pairs:
        page.say("These images are gone from the dataset.")


def _draw_pair(card: Page, pair: LeakPair) -> None:
    row = card.row()
    for side in (pair.one, pair.other):
        column = row.column()
        column.picture(
            side.path, f"image of {side.split}, similarity {pair.similarity:.3f}", height=90
        )
        column.say(_caption(side))
    card.say(f"similarity {pair.similarity:.4f}")


def _caption(side: LeakSide) -> str:
    name = side.path.rsplit("/", 1)[-1].replace("_", "\\_")
    return f"**{side.split}**{', should go' if side.drop else ''}  \n{name}"
