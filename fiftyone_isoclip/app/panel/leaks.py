"""The tab of leaks: what two splits have in common, pair by pair, and what should go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS, stale_notice
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt, recall, remember
from fiftyone_isoclip.dataset.leak_report import (
    LEAK_TAG,
    METHOD,
    LeakMatrix,
    LeakPair,
    LeakReport,
    LeakSide,
    report_of,
)
from fiftyone_isoclip.dataset.runs import SavedRun, list_runs
from fiftyone_isoclip.errors import DatasetError

A_PAGE = 6
A_ROW = 2
_RUN, _CELL, _AT = "leaks_run", "leaks_cell", "leaks_at"


def _runs(ctx: Context) -> list[SavedRun]:
    return [run for run in list_runs(ctx.dataset) if run.method == METHOD]


def _report(ctx: Context) -> LeakReport:
    """The report of the run that was chosen, else of the latest."""
    runs = _runs(ctx)
    if not runs:
        raise DatasetError(f"dataset {ctx.dataset.name!r} has no leaks any more; find them again")
    return report_of(ctx.dataset, _looked_at(ctx, runs))


def _looked_at(ctx: Context, runs: list[SavedRun]) -> SavedRun:
    wanted = recall(ctx, _RUN)
    return next((run for run in runs if run.key == wanted), runs[0])


def _find(ctx: Context) -> None:
    prompt(ctx, "find_leaks")


def _open_cell(ctx: Context) -> None:
    # A click on the plot tells the line as y and the column as x, a button tells them by name.
    one = str(ctx.params.get("one") or ctx.params.get("y"))
    other = str(ctx.params.get("other") or ctx.params.get("x"))
    report = _report(ctx)
    if one == other or not report.matrix.pairs_of(one, other):
        return
    remember(ctx, _CELL, [one, other])
    remember(ctx, _AT, 0)
    ctx.ops.set_view(report.cell_view(one, other))


def _turn(ctx: Context) -> None:
    remember(ctx, _AT, max(0, int(ctx.params["at"])))


def _tag(ctx: Context) -> None:
    going = _report(ctx).drop_view
    going.tag_samples(LEAK_TAG)
    ctx.ops.reload_dataset()
    told = f"{going.count()} samples have the tag {LEAK_TAG}; none was removed"
    ctx.ops.notify(told, variant="success")


def _untag(ctx: Context) -> None:
    _report(ctx).drop_view.untag_samples(LEAK_TAG)
    ctx.ops.reload_dataset()
    ctx.ops.notify(f"The tag {LEAK_TAG} is gone from the samples of this run", variant="success")


def _show_all(ctx: Context) -> None:
    ctx.ops.set_view(_report(ctx).view)


def _show_going(ctx: Context) -> None:
    ctx.ops.set_view(_report(ctx).drop_view)


def _show_both(ctx: Context) -> None:
    ctx.ops.set_view(_report(ctx).both_view)


class LeaksTab(Tab):
    """Shows a run of leaks: the table of splits, the pairs of two of them, and what should go."""

    name = "leaks"
    label = "Leaks"
    actions: ClassVar[Mapping[str, Action]] = {
        **STALE_ACTIONS,
        "find": _find,
        "open_cell": _open_cell,
        "turn": _turn,
        "tag": _tag,
        "untag": _untag,
        "show_all": _show_all,
        "show_going": _show_going,
        "show_both": _show_both,
    }

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        runs = _runs(ctx)
        if not runs:
            page.say(
                "### No search for leaks yet\nImages that are in two splits, or nearly the same "
                "as one in another split, make a model look better than it is. Every pair of "
                "images is compared; nothing is removed."
            )
            page.button("Find leaks between splits", "find", primary=True)
            return
        run = _looked_at(ctx, runs)
        if len(runs) > 1:
            page.choose(_RUN, "Result", {each.key: each.key for each in runs}, run.key)
        stale_notice(ctx, page, run)
        if not run.complete:
            return
        report = report_of(ctx.dataset, run)
        _draw_counts(page, report)
        if report.n_pairs:
            _draw_matrix(page, report.matrix)
            _draw_cell(ctx, page, report)
        _draw_ends(page, report)


def _draw_counts(page: Page, report: LeakReport) -> None:
    if report.n_pairs:
        page.say(
            f"**{report.n_leaked} of {report.n_compared:,} images leak** into another split, "
            f"{report.n_drop} of them should go. Similarity from {report.similarity:.4g}, band "
            f"{report.band}."
        )
    else:
        page.notice(
            f"No two of {report.n_compared:,} images in different splits are as similar as "
            f"{report.similarity:.4g}.",
            "success",
        )
    if report.n_unsplit or report.n_skipped + report.n_skipped_elsewhere:
        page.say(
            f"{report.n_unsplit:,} images are in no split; "
            f"{report.n_skipped + report.n_skipped_elsewhere:,} could not be compared."
        )
    if report.n_both and (n_both := report.both_view.count()):
        page.notice(f"{n_both} images have the tags of two splits: take one away.", "warning")
        page.button("Show them", "show_both")


def _draw_matrix(page: Page, matrix: LeakMatrix) -> None:
    """Images of one split (lines) that another (columns) has, too."""
    names = list(matrix.splits)
    images = [
        [None if a == b else n for b, n in enumerate(line)] for a, line in enumerate(matrix.images)
    ]
    texts = [["" if n is None else f"{n:,}" for n in line] for line in images]
    page.plot(
        [
            {
                "type": "heatmap",
                "x": names,
                "y": names,
                "z": images,
                "text": texts,
                "customdata": matrix.pairs,
                "texttemplate": "%{text}",
                "hovertemplate": "%{z} images of %{y} are also in %{x} (%{customdata} pairs)"
                "<extra></extra>",
                "colorscale": [[0, "#5c6f82"], [1, "#e8743b"]],
                "zmin": 0,
                "textfont": {"color": "#ffffff", "size": 14},
                "showscale": False,
                "xgap": 2,
                "ygap": 2,
            }
        ],
        {
            "xaxis": {"type": "category", "title": {"text": "are also in"}, "automargin": True},
            "yaxis": {
                "type": "category",
                "title": {"text": "images of"},
                "automargin": True,
                "autorange": "reversed",
            },
            "height": 140 + 50 * len(names),
        },
        "open_cell",
    )


def _draw_cell(ctx: Context, page: Page, report: LeakReport) -> None:
    page.say("#### Pairs")
    cells = [
        (one, other)
        for place, one in enumerate(report.splits)
        for other in report.splits[place + 1 :]
        if report.matrix.pairs_of(one, other)
    ]
    opened = recall(ctx, _CELL)
    row = page.row()
    for one, other in cells:
        label = f"{one} and {other}: {report.matrix.pairs_of(one, other):,}"
        row.button(
            label, "open_cell", primary=set(opened or ()) == {one, other}, one=one, other=other
        )
    if opened is None or tuple(sorted(opened)) not in {tuple(sorted(cell)) for cell in cells}:
        page.say("Click a cell of the table, or one of these buttons, to see the pairs.")
        return
    _draw_pairs(ctx, page, report, *opened)


def _draw_pairs(ctx: Context, page: Page, report: LeakReport, one: str, other: str) -> None:
    at = int(recall(ctx, _AT, 0))
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
        column.picture(side.path, f"image of {side.split}, similarity {pair.similarity:.3f}")
        column.say(_caption(side))
    card.say(f"similarity {pair.similarity:.4f}")


def _caption(side: LeakSide) -> str:
    name = side.path.rsplit("/", 1)[-1].replace("_", "\\_")
    return f"**{side.split}**{', should go' if side.drop else ''}  \n{name}"


def _draw_ends(page: Page, report: LeakReport) -> None:
    tagged = report.drop_view.match_tags(LEAK_TAG).count() if report.n_drop else 0
    if report.n_drop:
        page.say("#### When you are done\nTag first: it is undone by removing the tag. Nothing is "
                 "removed here, and no pair is left once what should go is gone.")  # fmt: skip
    row = page.row()
    if report.n_drop:
        row.button(f"Tag what should go ({report.n_drop:,})", "tag", primary=True)
        row.button(f"Remove the tag ({tagged:,})", "untag", disabled=not tagged)
        row.button("Show what should go", "show_going")
        row.button("Show all", "show_all")
    row.button("Find leaks ...", "find")
