"""Where to set the similarity: how like images are, what each value gives, the pairs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fiftyone_isoclip.app.duplicates import BY_FALSE_MATCHES, BY_SIMILARITY
from fiftyone_isoclip.app.panel.chosen import looked_at
from fiftyone_isoclip.app.panel.page import Page, cosine_text
from fiftyone_isoclip.app.panel.tab import Action, Context, prompt, recall
from fiftyone_isoclip.dataset.groups import similarity_of
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.dataset.thresholds import AUTO, BorderPair, border_pairs

FIND = "find_near_duplicates"
_MOVED = "duplicates_similarity"
_ORANGE, _GREY = "#ff6d04", "#8a8a8a"


def show_threshold(ctx: Context, page: Page, run: SavedRun) -> None:
    """Draw the histogram, the slider with what it would give, and the borderline pairs."""
    if run.parameters.get("exact"):
        page.say("Identical files have no similarity to set.")
        return
    if "curve" not in run.details:
        page.say("This search remembered no pairs below its similarity. Search again to move it.")
        return
    least, now = float(run.details["least"]), similarity_of(run)
    _show_histogram(page, run, now)
    page.slider(_MOVED, "Similarity", round(least, 4), 1.0, 0.001, now)
    moved = float(recall(ctx, _MOVED, now))
    page.say(_told(run, moved))
    row = page.row()
    row.button(f"Group at {moved:.3f}", "regroup", primary=True, disabled=abs(moved - now) < 5e-4)
    row.button("The most certain ...", "most_certain")
    _show_border(ctx, page, run)


def images_at(run: SavedRun, similarity: float) -> tuple[int, int]:
    """About how many groups and images a similarity gives, between the counts of the search."""
    steps, groups, images = np.array(run.details["curve"]).T
    found = (np.interp(similarity, steps, counts) for counts in (groups, images))
    return tuple(round(float(count)) for count in found)  # type: ignore[return-value]


def _told(run: SavedRun, moved: float) -> str:
    groups, images = images_at(run, moved)
    return (
        f"At **{moved:.3f}**: about {groups} groups of {images} images. Known from the search "
        f"for every similarity from {run.details['least']:.3g} on."
    )


def _show_histogram(page: Page, run: SavedRun, now: float) -> None:
    found = run.details["histogram"]
    edges = np.array(found["edges"])
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    curve = run.details["curve"]
    bars = {
        "type": "bar",
        "x": middles,
        "y": found["counts"],
        "marker": {"color": _GREY},
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [step[0] for step in curve],
        "y": [step[2] for step in curve],
        "yaxis": "y2",
        "line": {"color": _ORANGE},
    }
    mark = {"type": "line", "x0": now, "x1": now, "y0": 0, "y1": 1, "yref": "paper"}
    of = "" if found["sampled"] == found["of"] else f" ({found['sampled']} of {found['of']:,})"
    page.plot(
        [bars, line],
        {
            "xaxis": {"title": {"text": f"similarity to the nearest neighbour{of}"}},
            "yaxis": {"title": {"text": "images"}},
            "yaxis2": {"overlaying": "y", "side": "right", "rangemode": "tozero"},
            "shapes": [{**mark, "line": {"color": _ORANGE, "dash": "dash"}}],
            "margin": {"l": 50, "r": 50, "t": 10, "b": 40},
        },
    )
    page.say(
        "Grey: images by their similarity to their nearest neighbour. Orange: how many images are "
        "in groups from a similarity on (right scale)."
    )


def _show_border(ctx: Context, page: Page, run: SavedRun) -> None:
    found = border_pairs(ctx.dataset, run)
    if found is None:
        page.say("The pairs beside the similarity are not kept any more; search again.")
        return
    above, below = found
    ids = [id_ for pair in (*above, *below) for id_ in (pair.left, pair.right)]
    paths = dict(zip(*ctx.dataset.select(ids).values(["id", "filepath"]), strict=True))
    for title, pairs in (("Just duplicates", above), ("Just not any more", below)):
        shown = [pair for pair in pairs if pair.left in paths and pair.right in paths]
        if shown:
            page.say(f"**{title}**")
            row = page.row()
            for pair in shown:
                _show_pair(row.card(), pair, paths)


def _show_pair(card: Page, pair: BorderPair, paths: Mapping[str, str]) -> None:
    row = card.row(gap=1)
    for id_ in (pair.left, pair.right):
        row.picture(
            paths[id_], f"one of a pair of similarity {cosine_text(pair.similarity)}", height=80
        )
    card.say(cosine_text(pair.similarity))


def _regroup(ctx: Context) -> None:
    moved = round(float(recall(ctx, _MOVED)), 4)
    run = looked_at(ctx)
    asked = {**_asked(run), "by": BY_SIMILARITY, "similarity": moved}
    prompt(ctx, FIND, ask=False, about=run.key, **asked)


def _most_certain(ctx: Context) -> None:
    run = looked_at(ctx)
    prompt(ctx, FIND, about=run.key, **_asked(run), at_most=0.05)


def _asked(run: SavedRun) -> dict[str, Any]:
    """What the run was asked, for another search under its name."""
    by_rate = run.parameters["similarity"] == AUTO
    asked = {name: run.parameters.get(name) for name in ("field", "band", "prefer")}
    asked["by"] = BY_FALSE_MATCHES if by_rate else BY_SIMILARITY
    # A form that is switched over begins at what the rate gave.
    asked["similarity"] = similarity_of(run) if by_rate else run.parameters["similarity"]
    asked["false_matches"] = run.parameters.get("false_matches")
    known = {name: value for name, value in asked.items() if value is not None}
    least = run.details.get("least")
    return {**known, "key": run.key, **({} if least is None else {"least": least})}


def _search_again(ctx: Context) -> None:
    run = looked_at(ctx)
    if run.parameters.get("exact"):
        prompt(ctx, "find_exact_duplicates", about=run.key, key=run.key)
    else:
        prompt(ctx, FIND, about=run.key, **_asked(run))


THRESHOLD_ACTIONS: Mapping[str, Action] = {
    "regroup": _regroup,
    "most_certain": _most_certain,
    "search_again": _search_again,
}
