"""What is scheduled on a dataset, how far it is and what came of it, and what can be done to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_isoclip.app import scheduled
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Action, Context
from fiftyone_isoclip.app.scheduled import ScheduledRun, count_ended, find_scheduled, list_scheduled
from fiftyone_isoclip.errors import IsoClipError

REFRESH_SECONDS = (3, 60)
"""How soon the tab is drawn again: at first, and at the longest."""

REFRESH_SHARE = 0.05
"""Between these, after which share of the time that a run has waited or worked so far."""

WORKER = "fiftyone delegated launch"


def show_scheduled(ctx: Context, page: Page) -> None:
    """Draw the scheduled runs, if there are any, and again while one of them waits or is at work.

    The longer it does, the more seldom: all of the tab is drawn, and perhaps no worker ever comes.
    The tab's ``actions`` must hold ``SCHEDULED_ACTIONS``.
    """
    runs = list_scheduled(ctx.dataset)
    if not runs:
        return
    shown, n_ended = sum(run.ended for run in runs), count_ended(ctx.dataset)
    page.heading(
        "Scheduled" + (f", the latest {shown} of {n_ended} that ended" if n_ended > shown else "")
    )
    for run in runs:
        _draw(page.card(), run)
    if any(run.state == "queued" for run in runs):
        page.say(f"`{WORKER}` in a terminal carries out what is queued, the latest first.")
    if going_on := [run.since for run in runs if run.state in ("queued", "running")]:
        page.redraw(_refresh_seconds(max(going_on)))


def _refresh_seconds(since: datetime) -> int:
    soonest, longest = REFRESH_SECONDS
    # Beware: FiftyOne's times are in UTC and do not say so.
    gone = (datetime.utcnow() - since).total_seconds()
    return int(min(longest, max(soonest, REFRESH_SHARE * gone)))


def _draw(card: Page, run: ScheduledRun) -> None:
    card.say(f"**{run.label}**: {_words(run)}")
    if run.state == "failed":
        card.notice(f"It failed: {run.told}", "error")
    elif run.state == "cancelled":
        card.notice(f"{run.told[0].upper()}{run.told[1:]}.")
    elif run.state == "silent":
        card.notice(
            "Its worker has said nothing for a minute, so it was probably killed.", "warning"
        )
    row = card.row()
    if run.state == "completed":
        row.button("Result", "result", run=run.id)
    if run.state in ("failed", "cancelled", "silent"):
        row.button("Take up again", "take_up", primary=run.state != "cancelled", run=run.id)
    if run.ended:
        row.button("Put away", "put_away", run=run.id)
    else:
        row.button("Cancel", "cancel", run=run.id)


def _words(run: ScheduledRun) -> str:
    share = "" if run.share is None else f", {run.share:.0%}"
    step = f"  \n{run.told}{share}" if run.state == "running" else ""
    since = "," if run.ended else " since"
    return f"{run.state}{since} {run.since:%Y-%m-%d %H:%M} UTC{step}"


def _show_result(ctx: Context) -> None:
    run = find_scheduled(ctx.dataset, str(ctx.params["run"]))
    if run.result is None:
        raise IsoClipError(f"{run.label} is {run.state} and has no result")
    operator = foo.get_operator(run.operator)
    # What the App would have shown at once, had it waited.
    deque(operator.reveal(ctx, run.result), maxlen=0)
    form = types.Property(operator.describe(run.result), view=types.View(label=run.label))
    ctx.ops.show_output(form.to_json(), run.result)


def _acting(act: Callable[[fo.Dataset, str], None]) -> Action:
    return lambda ctx: act(ctx.dataset, str(ctx.params["run"]))


SCHEDULED_ACTIONS: Mapping[str, Action] = {
    "result": _show_result,
    "cancel": _acting(scheduled.cancel),
    "take_up": _acting(scheduled.take_up),
    "put_away": _acting(scheduled.put_away),
}
"""What a tab that shows ``show_scheduled`` adds to its actions."""
