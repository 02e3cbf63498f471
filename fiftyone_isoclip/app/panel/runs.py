"""The tab Runs: embeddings, runs, indexes and maps of a dataset, and what can be done to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from fiftyone import ViewField as F

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.scheduled import SCHEDULED_ACTIONS, show_scheduled
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt
from fiftyone_isoclip.app.run_forms import describe_counts, describe_kind
from fiftyone_isoclip.dataset.brain_runs import find_other_origin, list_brain_runs
from fiftyone_isoclip.dataset.overview import FieldOverview, list_fields
from fiftyone_isoclip.dataset.runs import SavedRun, list_runs, load_run
from fiftyone_isoclip.dataset.similarity_refresh import find_index_staleness
from fiftyone_isoclip.dataset.staleness import find_staleness
from fiftyone_isoclip.errors import DatasetError

SHOWN_RUNS = 20
_USED_BY = {"index": "magnifier, Similarity Search panel", "map": "Embeddings panel"}


def _show_run(ctx: Context) -> None:
    run = load_run(ctx.dataset, ctx.params["key"])
    if not ctx.dataset.has_saved_view(run.key):
        raise DatasetError(f"The saved view {run.key} was deleted; bring the run up to date")
    ctx.ops.set_view(ctx.dataset.load_saved_view(run.key))


def _show_failed(ctx: Context) -> None:
    error = f"{ctx.params['field']}_error"
    ctx.ops.set_view(ctx.dataset.match(F(error).exists()))


def _embed(ctx: Context) -> None:
    given = {name: ctx.params[name] for name in ("field", "model") if name in ctx.params}
    prompt(ctx, "compute_embeddings", **given)


def _rename(ctx: Context) -> None:
    prompt(ctx, "rename_run", key=ctx.params["key"])


def _delete(ctx: Context) -> None:
    prompt(ctx, "delete_run", key=ctx.params["key"])


class RunsTab(Tab):
    """Lists what this package wrote to the dataset; nothing is changed but by the operators."""

    name = "runs"
    label = "Runs"
    actions: ClassVar[Mapping[str, Action]] = {
        **STALE_ACTIONS,
        **SCHEDULED_ACTIONS,
        "show": _show_run,
        "show_failed": _show_failed,
        "embed": _embed,
        "rename": _rename,
        "delete": _delete,
    }

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        show_scheduled(ctx, page)
        fields, runs = list_fields(ctx.dataset), list_runs(ctx.dataset)
        _draw_fields(page, fields)
        if fields or runs:
            _draw_runs(ctx, page, runs)
        _draw_brain(ctx, page)


def _draw_fields(page: Page, fields: list[FieldOverview]) -> None:
    if not fields:
        page.notice("No embeddings yet: compute them first, all else starts from them.")
        page.button("Compute embeddings", "embed", primary=True)
        return
    table = [
        "| Field | Made by | Dims | Embedded | Missing | Failed |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for field in fields:
        held, band = field.held, field.origin.band
        kind = "plain CLIP" if band is None else f"IsoCLIP, band {band}"
        table.append(
            f"| {field.name} | {field.origin.checkpoint}, {kind} | {field.origin.dim} "
            f"| {held.vectors} | {held.samples - held.vectors} | {held.failed} |"
        )
    page.heading("Embeddings")
    page.say("\n".join(table))
    row = page.row()
    for field in fields:
        held, made_by = field.held, field.origin.checkpoint
        if held.failed:
            row.button(f"Show {held.failed} that failed", "show_failed", field=field.name)
        if held.vectors < held.samples and field.origin.band is None:
            missing = f"Embed {held.samples - held.vectors} without {field.name}"
            row.button(missing, "embed", field=field.name, model=made_by)


def _draw_runs(ctx: Context, page: Page, runs: list[SavedRun]) -> None:
    more = f", the latest {SHOWN_RUNS} of {len(runs)}" if len(runs) > SHOWN_RUNS else ""
    page.heading(f"Runs{more}")
    if not runs:
        page.say("None yet: the other tabs begin one.")
    for run in runs[:SHOWN_RUNS]:
        card = page.card()
        made_by = f"{run.checkpoint}, band {run.band}" if run.checkpoint else "the files' bytes"
        card.say(
            f"**{run.key}** ({describe_kind(run)}): {describe_counts(run) or 'nothing'}  \n"
            f"{_when(run.time)}, {int(run.counts.get('compared', 0))} images compared by {made_by}"
        )
        if verdict := run.details.get("verdict"):
            card.say(verdict)
        stale = find_staleness(ctx.dataset, run)
        if not run.complete:
            card.notice("It did not end, so what it shows is not whole.", "warning")
        elif stale:
            card.notice(f"Since then: {stale}.", "warning")
        row = card.row()
        row.button("Show", "show", key=run.key, disabled=not run.complete)
        update, due = "bring_up_to_date", bool(stale) or not run.complete
        row.button("Bring up to date", update, primary=due, key=run.key)
        row.button("Rename", "rename", key=run.key)
        row.button("Delete", "delete", key=run.key)


def _draw_brain(ctx: Context, page: Page) -> None:
    found = list_brain_runs(ctx.dataset)
    if not found:
        return
    page.heading("Indexes and maps")
    for run in found[:SHOWN_RUNS]:
        card = page.card()
        made_by = f", {run.checkpoint}, band {run.band}, of {run.field}" if run.checkpoint else ""
        card.say(f"**{run.key}** ({run.what}{made_by})  \n{_when(run.time)}, {_USED_BY[run.kind]}")
        if not run.complete:
            told = "It was not built to its end. Unless somebody does it now, delete it"
            card.notice(f"{told} and build it again.", "warning")
        row = card.row()
        if other := find_other_origin(ctx.dataset, run):
            told = f"Its field {run.field} holds {other} now: delete it and build it again."
            card.notice(told, "warning")
        elif run.in_database and run.complete and not ctx.dataset.has_run(run.key):
            stale = find_index_staleness(ctx.dataset, run)
            if stale:
                card.notice(f"Since then: {stale}.", "warning")
            row.button("Bring up to date", "bring_up_to_date", primary=bool(stale), key=run.key)
        row.button("Delete", "delete", key=run.key)


def _when(time: datetime | None) -> str:
    return "at an unknown time" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"
