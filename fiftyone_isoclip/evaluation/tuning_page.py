"""What tuning found, in one sentence, as JSON, and as a page with a map of all bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fiftyone_isoclip.evaluation.comparison import made_by, signed
from fiftyone_isoclip.evaluation.methods import CENTRED, PLAIN
from fiftyone_isoclip.evaluation.metrics.bootstrap import DEFAULT_LEVEL, Interval
from fiftyone_isoclip.evaluation.report import Page, Plot, Table
from fiftyone_isoclip.evaluation.scores import interval_json
from fiftyone_isoclip.evaluation.sweep import Plane
from fiftyone_isoclip.evaluation.tuning import Tuning
from fiftyone_isoclip.projector import WHOLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEEDS_CENTRE = (
    "Centring needs a dataset that `isoclip.fit_centre(dataset)` has stored a centre for; files "
    "and the command line take no centred band."
)
_BEST = 5
"""Bands of each plane that the table names."""


def tell_tuning(tuning: Tuning, checkpoint: str) -> str:
    """Which band to take, or that plain CLIP is to be kept, and by how much: who wins first."""
    over = (
        f"mAP by {tuning.labels_from}, {tuning.n_queries:,} queries among {len(tuning.holding):,} "
        f"images that no band was chosen on, {DEFAULT_LEVEL:.0%} intervals"
    )
    centring = tuning.recommended.centred or tuning.centring.low > 0
    need = f" {_NEEDS_CENTRE}" if centring else ""
    return f"{_verdict(tuning)} ({over}).{need} Measured with {made_by(checkpoint)}."


def _verdict(tuning: Tuning) -> str:
    n = sum(plane.n_bands for plane in tuning.planes)
    centring = f"mean-centred plain CLIP beats plain CLIP by {signed(tuning.centring)}"
    centring_wins = tuning.centring.low > 0
    band, plain, centred = tuning.candidate, tuning.over_plain, tuning.over_centred
    if band is None or plain is None or centred is None:
        found = (
            f"of {n:,} bands on the images to choose on none came out better than dropping nothing"
        )
    elif tuning.recommended != WHOLE:
        also = f"; {centring}" if centring_wins else ""
        return (
            f"Band {band} beats plain CLIP by {signed(plain)} and mean-centred plain CLIP by "
            f"{signed(centred)}{also}"
        )
    else:
        found = (
            f"band {band}, the best of {n:,} on the images to choose on, {_stands(plain, PLAIN)} "
            f"and {_stands(centred, CENTRED)}"
        )
    if centring_wins:
        return f"Keep plain CLIP, or centre it: {centring}; {found}"
    return f"Keep plain CLIP: {found}"


def _stands(found: Interval, name: str) -> str:
    if found.low > 0:
        return f"beats {name} ({signed(found)})"
    if found.high < 0:
        return f"loses to {name} ({signed(found)})"
    return f"shows no measurable difference to {name} ({signed(found)})"


def tuning_json(tuning: Tuning, checkpoint: str) -> dict[str, Any]:
    """Everything that was found, as JSON values."""
    differences = {
        "over_plain": tuning.over_plain,
        "over_centred": tuning.over_centred,
        "centring": tuning.centring,
    }
    return {
        "verdict": tell_tuning(tuning, checkpoint),
        "checkpoint": checkpoint,
        "weights": made_by(checkpoint),
        "recommended": str(tuning.recommended),
        "candidate": None if tuning.candidate is None else str(tuning.candidate),
        "labels_from": tuning.labels_from,
        "images": tuning_counts(tuning),
        "level": DEFAULT_LEVEL,
        "held_out": {name: interval_json(found) for name, found in tuning.held_out.items()},
        "differences": {
            name: None if found is None else interval_json(found)
            for name, found in differences.items()
        },
        "planes": [plane_json(plane) for plane in tuning.planes],
    }


def plane_json(plane: Plane) -> dict[str, Any]:
    """A plane as JSON values: scores to four decimals, a row for each count dropped at the top."""
    scores = [
        [None if np.isnan(score) else round(score, 4) for score in row]
        for row in plane.scores.tolist()
    ]
    return {
        "centred": plane.centred,
        "best": str(plane.best),
        "drops": plane.drops.tolist(),
        "scores": scores,
    }


def tuning_counts(tuning: Tuning) -> dict[str, int]:
    """How many images were used for what, and why others were not."""
    return {
        "chosen on": len(tuning.choosing),
        "held out": len(tuning.holding),
        "queries held out": tuning.n_queries,
        "classes": tuning.n_classes,
        "without a label": tuning.n_unlabelled,
        "of repeated content": tuning.n_repeated,
        "not drawn": tuning.n_undrawn,
    }


def tuning_page(tuning: Tuning, checkpoint: str, parameters: Mapping[str, object]) -> Page:
    """The report: the held-out figures, the best bands, and a map of each plane."""
    own = {"checkpoint": checkpoint, "labels": tuning.labels_from}
    counts = {f"images {name}": count for name, count in tuning_counts(tuning).items()}
    parts: list[Table | Plot] = [_held_out_table(tuning), _best_table(tuning)]
    parts += map(_map, tuning.planes)
    verdict = tell_tuning(tuning, checkpoint)
    return Page("Which band suits these images", verdict, parts, own | counts | {**parameters})


def best_bands(plane: Plane, count: int = _BEST) -> list[tuple[str, float]]:
    """The bands with the highest scores of a plane, the best first."""
    order = np.argsort(-np.nan_to_num(plane.scores, nan=-1.0), axis=None, kind="stable")[:count]
    tops, bottoms = np.unravel_index(order, plane.scores.shape)
    ending = "-centred" * plane.centred
    return [
        (f"{plane.drops[top]}/{plane.drops[bottom]}{ending}", float(plane.scores[top, bottom]))
        for top, bottom in zip(tops, bottoms, strict=True)
        if not np.isnan(plane.scores[top, bottom])
    ]


def draw_plane(axes: Axes, plane: Plane) -> None:
    """A heat map of a plane, with a ring around its best band."""
    half = (plane.drops[1] - plane.drops[0]) / 2 if len(plane.drops) > 1 else 0.5
    ends = (plane.drops[0] - half, plane.drops[-1] + half)
    drawn = axes.imshow(
        plane.scores, origin="lower", extent=(*ends, *ends), aspect="auto", cmap="viridis"
    )
    best = plane.best
    axes.plot(best.drop_bottom, best.drop_top, "o", mfc="none", mec="red", ms=10, mew=2)
    axes.set(
        xlabel="directions dropped at the bottom",
        ylabel="directions dropped at the top",
        title=f"best: {best} ({np.nanmax(plane.scores):.3f})",
    )
    axes.grid(visible=False)
    axes.figure.colorbar(drawn, ax=axes, label="mAP")


def _map(plane: Plane) -> Plot:
    kind = "centred bands" if plane.centred else "bands"
    return Plot(
        f"All {plane.n_bands:,} {kind} on the images to choose on",
        "Plain CLIP, or mean-centred plain CLIP, is the corner 0/0. Part of the height of the peak "
        "is luck of the choice, which is why the figures above come from other images.",
        lambda axes: draw_plane(axes, plane),
    )


def _held_out_table(tuning: Tuning) -> Table:
    rows: list[list[object]] = [
        [name if name in (PLAIN, CENTRED) else f"band {name}", str(found)]
        for name, found in tuning.held_out.items()
    ]
    named = {
        f"band {tuning.candidate} less {PLAIN}": tuning.over_plain,
        f"band {tuning.candidate} less {CENTRED}": tuning.over_centred,
        f"{CENTRED} less {PLAIN}": tuning.centring,
    }
    rows += [[name, signed(found)] for name, found in named.items() if found is not None]
    return Table(
        "On the images held out",
        f"mAP from 0 to 1, with {DEFAULT_LEVEL:.0%} intervals that leave out a twentieth of the "
        "images at a time: they speak of other images of these classes, or, with edited copies, of "
        "other originals.",
        ["", "mAP"],
        rows,
    )


def _best_table(tuning: Tuning) -> Table:
    rows = [list(named) for plane in tuning.planes for named in best_bands(plane)]
    return Table(
        "The best bands on the images to choose on",
        "The best of either plane were measured on the images held out, and no other.",
        ["band", "mAP"],
        rows,
    )
