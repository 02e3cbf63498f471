"""The tab Space: the spectrum, a band chosen on it, and what the band does to neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fiftyone_isoclip.app.forms import plain_fields
from fiftyone_isoclip.app.index import DEFAULT_KEY
from fiftyone_isoclip.app.panel.loaded import LoadedSpace, find_space, is_outdated, load_space
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS, stale_notice
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt, recall, remember
from fiftyone_isoclip.dataset.brain_runs import list_brain_runs
from fiftyone_isoclip.dataset.comparison_reports import (
    METHOD,
    comparison_view,
    load_comparison,
    overlap_field,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.runs import list_runs
from fiftyone_isoclip.errors import BandError, DatasetError
from fiftyone_isoclip.projector import Band

SHOWN_NEIGHBORS = 6
SHOWN_QUERIES = 6
SHOWN_INDEXES = 3
_IN_A_ROW = 3

_ORANGE = "rgb(255, 109, 4)"
_KEPT = "rgba(255, 109, 4, 0.25)"


def _load(ctx: Context) -> None:
    load_space(ctx.dataset, ctx.params["field"])


def _use_band(ctx: Context) -> None:
    remember(ctx, "space_top", ctx.params["top"])
    remember(ctx, "space_bottom", ctx.params["bottom"])


def _select(ctx: Context) -> None:
    ctx.ops.set_selected_samples([ctx.params["id"]])


def _show_in_grid(ctx: Context) -> None:
    ctx.ops.set_view(comparison_view(ctx.dataset, ctx.params["key"]))


def _prompt(ctx: Context) -> None:
    asked = {
        name: ctx.params[name] for name in ("field", "band", "key", "replace") if name in ctx.params
    }
    prompt(ctx, ctx.params["operator"], **asked)


class SpaceTab(Tab):
    """Shows the spectrum with a band on it, and a sample's neighbours in plain CLIP and in it."""

    name = "space"
    label = "Space"
    actions: ClassVar[Mapping[str, Action]] = {
        "load": _load,
        "use_band": _use_band,
        "select": _select,
        "show_in_grid": _show_in_grid,
        "prompt": _prompt,
        **STALE_ACTIONS,
    }

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        fields = [f for f in plain_fields(ctx.dataset) if need_origin(ctx.dataset, f).band is None]
        if not fields:
            page.notice("Compute CLIP embeddings first: a space is made of them.")
            page.button("Compute embeddings", "prompt", primary=True, operator="compute_embeddings")
            return
        name = recall(ctx, "space_field")
        if name not in fields:
            name = DEFAULT_FIELD if DEFAULT_FIELD in fields else fields[0]
        if len(fields) > 1:
            page.choose("space_field", "Embeddings", {field: field for field in fields}, name)
        loaded = find_space(ctx.dataset, name)
        if loaded is None:
            page.notice(
                f"Field {name} holds {need_origin(ctx.dataset, name)}. Load them to see the "
                "spectrum of the model and to move the band."
            )
            page.button("Load the space (takes a few seconds)", "load", primary=True, field=name)
            return
        _tell_what_is_loaded(ctx, page, name, loaded)
        band = _show_spectrum(ctx, page, name, loaded)
        if band is not None:
            _show_neighbors(ctx, page, loaded, band)
        _show_disagreement(ctx, page, name, loaded.own if band is None else band)


def _tell_what_is_loaded(ctx: Context, page: Page, name: str, loaded: LoadedSpace) -> None:
    stored = loaded.plain.stored
    told = f"**{loaded.plain.origin.checkpoint}**, field {name}: {len(stored.ids):,} images"
    if stored.skipped:
        told += f", {len(stored.skipped):,} cannot be compared"
    if loaded.n_left_out:
        told += f"; {loaded.n_left_out:,} more are left out here, to spare memory"
    if is_outdated(ctx.dataset, name, loaded):
        page.notice("Embeddings were added, removed or made anew since this was loaded.", "warning")
    row = page.row()
    row.say(told)
    row.button("Reload", "load", field=name, title="Read the embeddings again")


def _show_spectrum(ctx: Context, page: Page, name: str, loaded: LoadedSpace) -> Band | None:
    """Draw the spectrum and the sliders; -> the band, None if nothing would be kept."""
    rank, own = loaded.spectrum.rank, loaded.own
    top = min(int(recall(ctx, "space_top", own.drop_top)), rank)
    bottom = min(int(recall(ctx, "space_bottom", own.drop_bottom)), rank)
    band = Band(top, bottom)
    page.plot([_line(loaded)], _spectrum_layout(band, rank))
    page.slider("space_top", f"Directions left out at the top: {top}", 0, rank, 1, top)
    page.slider("space_bottom", f"Directions left out at the bottom: {bottom}", 0, rank, 1, bottom)
    try:
        kept = band.count(rank)
    except BandError as error:
        page.notice(f"{error}.", "warning")
        return None
    page.say(
        f"Band **{band}** keeps {kept} of {rank} directions. The checkpoint's own band is {own}; "
        "0/0 is plain CLIP."
    )
    row = page.row()
    row.button(
        f"Use {own}",
        "use_band",
        disabled=band == own,
        title="The checkpoint's own band",
        top=own.drop_top,
        bottom=own.drop_bottom,
    )
    row.button(
        "Build an index with this band",
        "prompt",
        title="For the magnifier and the Similarity Search panel: choose it in their settings",
        operator="build_similarity_index",
        field=name,
        band=str(band),
        key=f"{DEFAULT_KEY}_{top}_{bottom}",
    )
    _show_indexes(ctx, page, name, band)
    return band


def _show_indexes(ctx: Context, page: Page, name: str, band: Band) -> None:
    """Draw a button for each index of the field that has another band."""
    indexes = [run for run in list_brain_runs(ctx.dataset) if run.field == name]
    others = [run for run in indexes if run.band != str(band)][:SHOWN_INDEXES]
    row = page.row() if others else page
    for run in others:
        row.button(
            f"Rebuild {run.key} with this band",
            "prompt",
            title=f"It has the band {run.band}",
            operator="build_similarity_index",
            field=name,
            band=str(band),
            key=run.key,
            replace=True,
        )


def _line(loaded: LoadedSpace) -> dict[str, Any]:
    values = loaded.spectrum.values
    return {
        "type": "scatter",
        "mode": "lines",
        "line": {"color": _ORANGE},
        "x": list(range(1, len(values) + 1)),
        # Four digits are more than can be seen, and this travels with each drawing.
        "y": [float(f"{value:.4g}") for value in values],
        "hovertemplate": "direction %{x}: %{y}<extra></extra>",
    }


def _spectrum_layout(band: Band, rank: int) -> dict[str, Any]:
    shape = {
        "type": "rect",
        "yref": "paper",
        "x0": band.drop_top + 0.5,
        "x1": rank - band.drop_bottom + 0.5,
        "y0": 0,
        "y1": 1,
        "fillcolor": _KEPT,
        "line": {"width": 0},
        "layer": "below",
    }
    return {
        "xaxis": {"title": {"text": "Direction of Psi, the kept ones shaded"}},
        "yaxis": {
            "type": "log",
            "title": {"text": "Singular value"},
            "dtick": 1,
            "tickformat": "~g",
        },
        "height": 200,
        "shapes": [shape] if band.drop_top + band.drop_bottom < rank else [],
    }


def _show_neighbors(ctx: Context, page: Page, loaded: LoadedSpace, band: Band) -> None:
    """Draw the nearest samples of one sample in both spaces, side by side."""
    from fiftyone_isoclip.dataset.comparisons import nearest_samples

    page.heading("Neighbours in plain CLIP and in this band")
    asked = ctx.selected[0] if ctx.selected else next(iter(ctx.view.limit(1).values("id")), None)
    if asked is None:
        page.say("There is no sample in this view.")
        return
    try:
        plain = nearest_samples(loaded.plain, asked, SHOWN_NEIGHBORS)
        isoclip = nearest_samples(loaded.under(band), asked, SHOWN_NEIGHBORS)
    except DatasetError as error:
        page.notice(f"{error}.", "warning")
        return
    paths = _paths(ctx, [asked, *(id_ for id_, _ in plain + isoclip)])
    common = {id_ for id_, _ in plain} & {id_ for id_, _ in isoclip}
    row = page.row()
    if asked in paths:
        row.picture(paths[asked], "the sample whose neighbours are shown", height=100)
    row.say(
        (
            ""
            if ctx.selected
            else "This is the first sample of the view; select another in the grid. "
        )
        + f"{len(common)} of its {len(plain)} nearest neighbours are the same in both spaces."
    )
    sides = page.row(gap=4)
    for heading, near in (("Plain CLIP (0/0)", plain), (f"Band {band}", isoclip)):
        card = sides.card()
        card.say(f"**{heading}**")
        cosines = {
            id_: f"{cosine:.3f}" + ("" if id_ in common else " **only here**")
            for id_, cosine in near
            if id_ in paths
        }
        _show_pictures(card, paths, cosines)


def _show_pictures(page: Page, paths: Mapping[str, str], told: Mapping[str, str]) -> None:
    ids = list(told)
    for start in range(0, len(ids), _IN_A_ROW):
        row = page.row()
        for place, id_ in enumerate(ids[start : start + _IN_A_ROW], start + 1):
            column = row.column()
            column.picture(paths[id_], f"neighbour {place}", height=100)
            column.say(told[id_])


def _show_disagreement(ctx: Context, page: Page, name: str, band: Band) -> None:
    """Draw where the latest comparison found that the two spaces have least in common."""
    page.heading("Where the two spaces disagree most")
    runs = [run for run in list_runs(ctx.dataset) if run.method == METHOD]
    ask: dict[str, Any] = {"operator": "compare_with_clip", "field": name, "band": str(band)}
    if not runs:
        page.say("Compare the neighbours of all images to see it, and which space fits labels.")
        page.button("Compare with plain CLIP", "prompt", primary=True, **ask)
        return
    run = runs[0]
    stale_notice(ctx, page, run)
    if not run.complete:
        return
    page.say(f"{load_comparison(ctx.dataset, run.key)}")
    overlap = overlap_field(run.key)
    first = comparison_view(ctx.dataset, run.key).limit(SHOWN_QUERIES)
    row = page.row()
    for id_, path, share in zip(*first.values(["id", "filepath", overlap]), strict=True):
        column = row.column()
        column.picture(path, "an image whose neighbours differ", height=100)
        column.say(f"{share:.0%} in common")
        column.button("Look", "select", title="Select it, to see its neighbours above", id=id_)
    row = page.row()
    row.button("Show in the grid", "show_in_grid", key=run.key)
    row.button("Compare again with this band", "prompt", **ask)


def _paths(ctx: Context, ids: Sequence[str]) -> dict[str, str]:
    """Where the pictures of a few samples are; those that are gone are left out."""
    return dict(zip(*ctx.dataset.select(list(ids)).values(["id", "filepath"]), strict=True))
