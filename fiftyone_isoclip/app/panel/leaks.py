"""The tab of leaks: what two splits have in common, pair by pair, and what should go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fiftyone_isoclip.app.leak_forms import params_again
from fiftyone_isoclip.app.panel.leak_pairs import AT, CELL, draw_cell
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS, stale_notice
from fiftyone_isoclip.app.panel.start import START_ACTIONS, show_start
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt, recall, remember
from fiftyone_isoclip.dataset.leak_pairs import LeakMatrix
from fiftyone_isoclip.dataset.leak_report import (
    LEAK_TAG,
    METHOD,
    LeakReport,
    report_of,
)
from fiftyone_isoclip.dataset.runs import SavedRun, list_runs
from fiftyone_isoclip.errors import DatasetError

_RUN = "leaks_run"


def _runs(ctx: Context) -> list[SavedRun]:
    return [run for run in list_runs(ctx.dataset) if run.method == METHOD]


def _report(ctx: Context) -> LeakReport:
    """The report of the run that was chosen, else of the latest."""
    return report_of(ctx.dataset, _looked_at(ctx, _runs(ctx)))


def _looked_at(ctx: Context, runs: list[SavedRun]) -> SavedRun:
    if not runs:
        raise DatasetError(f"dataset {ctx.dataset.name!r} has no leaks any more; find them again")
    wanted = recall(ctx, _RUN)
    return next((run for run in runs if run.key == wanted), runs[0])


def _find(ctx: Context) -> None:
    prompt(ctx, "find_leaks")


def _search_again(ctx: Context) -> None:
    run = _looked_at(ctx, _runs(ctx))
    prompt(ctx, "find_leaks", about=run.key, **params_again(run))


def _open_cell(ctx: Context) -> None:
    # A click on the plot tells the line as y and the column as x, a button tells them by name.
    one = str(ctx.params.get("one") or ctx.params.get("y"))
    other = str(ctx.params.get("other") or ctx.params.get("x"))
    report = _report(ctx)
    if one == other or not report.matrix.pairs_of(one, other):
        return
    remember(ctx, CELL, [one, other])
    remember(ctx, AT, 0)
    ctx.ops.set_view(report.cell_view(one, other))


def _turn(ctx: Context) -> None:
    remember(ctx, AT, max(0, int(ctx.params["at"])))


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
        **START_ACTIONS,
        "find": _find,
        "search_again": _search_again,
        "open_cell": _open_cell,
        "turn": _turn,
        "tag": _tag,
        "untag": _untag,
        "show_all": _show_all,
        "show_going": _show_going,
        "show_both": _show_both,
    }
    looks: ClassVar[Mapping[str, Action]] = {"open_cell": _open_cell}

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        runs = _runs(ctx)
        if not runs:
            page.heading("No search for leaks yet")
            page.say(
                "Images that two splits have in common make a model "
                "look better than it is.  \nAll pairs are compared; nothing is removed."
            )
            show_start(ctx, page, "Find leaks between splits", "find")
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
            draw_cell(ctx, page, report)
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
        page.notice(
            f"Images with the tags of two splits: {n_both:,}. Take one tag away.", "warning"
        )
        page.button("Show these", "show_both")


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
                "colorscale": [[0, "#5c6f82"], [1, "#c2501a"]],
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


def _draw_ends(page: Page, report: LeakReport) -> None:
    if report.n_drop:
        tagged = report.drop_view.match_tags(LEAK_TAG).count()
        page.heading("When you are done")
        page.say("Tag what should go: without it, no pair is left. "
                 "Nothing is removed here.")  # fmt: skip
        row = page.row()
        row.button(f"Tag what should go ({report.n_drop:,})", "tag", primary=True)
        row.button(f"Remove the tag ({tagged:,})", "untag", disabled=not tagged)
        row = page.row()
        row.button("Show what should go", "show_going")
        row.button("Show all that leaks", "show_all")
    page.button("Search again ...", "search_again")
