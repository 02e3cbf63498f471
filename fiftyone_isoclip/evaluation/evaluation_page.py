"""An evaluation as a page: the methods, where they differ, and queries to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_isoclip.evaluation.comparison import Comparison, Difference, signed
from fiftyone_isoclip.evaluation.metrics.bootstrap import DEFAULT_LEVEL, DEFAULT_RESAMPLES
from fiftyone_isoclip.evaluation.report import Page, Pictures, Plot, Table
from fiftyone_isoclip.evaluation.scores import DECISIVE, OWN_GALLERY, MethodScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fiftyone_isoclip.evaluation.evaluate import Evaluation, Example, Task

_TIMED = (
    " A query's time is from the image file to the ranks, the median of a few, one at a time; of "
    "what was not timed like that, nothing is told."
)
_FITTED = "Baselines and the centres of bands are fitted on the gallery, never on labels"
_ON_QUERIES = ", and so on the queries that lie in it"
_COLOURS = {
    "plain": "#8a8f98",
    "baseline": "#8a8f98",
    "inversion": "#d9822b",
    "hash": "#d9822b",
    "band": "#3b82c4",
}


def make_page(evaluation: Evaluation, parameters: Mapping[str, object]) -> Page:
    """The report of an evaluation; the parameters are told beside its own."""
    task, comparison = evaluation.task, evaluation.comparison
    what = "texts" if evaluation.text else "images"
    own = {
        "checkpoint": evaluation.checkpoint,
        "queries": f"{len(task.queries):,} {what}, {_whose_queries(task)}",
        "queries with anything to find": f"{comparison.n_scored:,}",
        "intervals": f"{DEFAULT_LEVEL:.0%}, {_how_wide(task.is_apart)}",
        "gallery": f"{len(task.gallery):,} {what} of {len(task.classes):,} classes",
        "left out": f"{task.n_repeated:,} {what} equal to another one, "
        f"{len(task.unreadable):,} that could not be read",
        "seed": evaluation.seed,
    }
    parts: list[Table | Plot | Pictures] = [
        methods_table(comparison),
        means_plot(comparison),
        differences_table(comparison),
        _classes_table(evaluation),
    ]
    if evaluation.examples:
        parts.append(_examples(evaluation))
    parts.append(notes_table(comparison, f"{_FITTED}{_ON_QUERIES * (not task.is_apart)}."))
    return Page(f"Retrieval in {task.name}", evaluation.verdict, parts, own | {**parameters})


def _whose_queries(task: Task) -> str:
    if task.is_apart:
        return "apart from the gallery"
    own = np.count_nonzero(task.own_rows >= 0)
    if own < len(task.queries):
        return f"{own:,} of which are in the gallery as well, each without itself"
    some = len(task.queries) < len(task.gallery)
    return f"{'some of the gallery' if some else 'the gallery itself'}, each without itself"


def in_milliseconds(seconds: float | None) -> str | None:
    """Seconds as they are shown."""
    return None if seconds is None else f"{1000 * seconds:,.1f} ms"


def methods_table(comparison: Comparison) -> Table:
    """Every method by every metric, the best first."""
    ordered = sorted(comparison.methods, key=MethodScores.mean, reverse=True)
    metrics = list(ordered[0].intervals)
    timed = any(method.seconds_per_query is not None for method in ordered)
    rows = [
        [
            method.name,
            str(method.intervals[DECISIVE]),
            *(method.mean(metric) for metric in metrics if metric != DECISIVE),
            *[in_milliseconds(method.seconds_per_query)] * timed,
        ]
        for method in ordered
    ]
    others = [metric for metric in metrics if metric != DECISIVE]
    return Table(
        "Every method on the same queries",
        f"Means over the queries, from 0 to 1, the best {DECISIVE} first; in brackets its "
        f"{DEFAULT_LEVEL:.0%} interval, which says nothing about another gallery.{_TIMED * timed}",
        ["method", DECISIVE, *others, *["a query"] * timed],
        rows,
    )


def _how_wide(is_apart: bool) -> str:
    if is_apart:
        return f"{DEFAULT_RESAMPLES:,} bootstrap draws of the queries or more, the gallery fixed"
    return (
        f"{DEFAULT_RESAMPLES:,} bootstrap draws of the queries or more, made {OWN_GALLERY:g} times "
        "as wide because every query is also what others find"
    )


def notes_table(comparison: Comparison, note: str = "") -> Table:
    """How every method is made; the note stands above."""
    rows = [(method.name, method.note) for method in comparison.methods if method.note]
    return Table("How every method is made", note, ["method", "how it is made"], rows)


def means_plot(comparison: Comparison) -> Plot:
    """The decisive mean of every method with its interval."""
    ordered = sorted(comparison.methods, key=MethodScores.mean)

    def draw(axes: Axes) -> None:
        for place, method in enumerate(ordered):
            found = method.intervals[DECISIVE]
            ends = [[found.mean - found.low], [found.high - found.mean]]
            colour = _COLOURS[method.kind]
            axes.errorbar(found.mean, place, xerr=ends, fmt="o", color=colour, capsize=3)
        axes.axvline(comparison.best_baseline.mean(), color="#8a8f98", linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(ordered)), [method.name for method in ordered])
        axes.set_xlabel(DECISIVE)

    return Plot(
        f"{DECISIVE} of every method",
        "Bands in blue, baselines in grey, those that are no map of the embedding in orange; the "
        "line is the best of all but bands. Intervals that overlap "
        "may still differ: the table below pairs the queries.",
        draw,
        (8.0, 1.0 + 0.32 * len(ordered)),
    )


def differences_table(comparison: Comparison) -> Table:
    """Each band less the best baseline and less plain CLIP, query by query."""

    def told(difference: Difference) -> str:
        if not comparison.tells(difference):
            return "no measurable difference"
        return "the band is better" if difference.interval.low > 0 else "the band is worse"

    rows = [
        (each.band, each.baseline, signed(each.interval), told(each))
        for each in comparison.differences
    ]
    return Table(
        "Each band against the baselines, query by query",
        f"{DECISIVE} of the band less that of the baseline. {comparison.best_baseline.name} is the "
        "best of all baselines on these same queries, which is hard on the bands. The intervals "
        f"hold for all {len(comparison.to_best)} bands together at "
        f"{DEFAULT_LEVEL:.0%}. A band that was chosen by looking at these queries has to be "
        "measured on others.",
        ["band", "against", "difference", ""],
        rows,
    )


def _classes_table(evaluation: Evaluation) -> Table:
    task, comparison = evaluation.task, evaluation.comparison
    shown = {
        method.name: method.values[DECISIVE]
        for method in (comparison.of("plain CLIP"), comparison.best_baseline, comparison.best_band)
    }
    rows = []
    for number, name in enumerate(task.classes):
        own = task.query_labels == number
        scored = own & ~np.isnan(comparison.methods[0].values[DECISIVE])
        if scored.any():
            means = [float(values[scored].mean()) for values in shown.values()]
            rows.append((name, int(scored.sum()), *means))
    return Table(
        f"{DECISIVE} by class",
        "The mean over the queries of each class.",
        ["class", "queries", *shown],
        rows,
    )


def _examples(evaluation: Evaluation) -> Table | Pictures:
    comparison = evaluation.comparison
    band, baseline = comparison.best_band.name, comparison.best_baseline.name
    title = "Queries on which they differ most"
    note = (
        f"First where {band} gains most on {baseline}, then where it loses most: chosen to show "
        "the extremes, not the average."
    )
    if evaluation.text:
        rows = [row for example in evaluation.examples for row in _texts(evaluation, example)]
        return Table(title, note, ["query", "method", "first result", "its class is right"], rows)
    pictures = [row for example in evaluation.examples for row in _pictures(evaluation, example)]
    return Pictures(title, note, pictures)


def _found(evaluation: Evaluation, example: Example) -> list[tuple[str, float, Sequence[int]]]:
    """The two methods of an example: name, the decisive number of the query, and what it found."""
    comparison = evaluation.comparison
    return [
        (method.name, float(method.values[DECISIVE][example.query]), rows)
        for method, rows in (
            (comparison.best_band, example.band_rows),
            (comparison.best_baseline, example.baseline_rows),
        )
    ]


def _pictures(evaluation: Evaluation, example: Example) -> list[list[tuple[str, str]]]:
    task, query = evaluation.task, example.query
    label = task.query_labels[query]
    rows = []
    for name, score, found in _found(evaluation, example):
        asked = task.query_names[query]
        told = f"Query {_named(asked)}\n{task.classes[label]}\n{name}: AP {score:.3f}"
        row = [(asked, told)]
        for place in found:
            other = task.gallery_labels[place]
            mark = "\N{CHECK MARK}" if other == label else "\N{MULTIPLICATION SIGN}"
            path = task.gallery_names[place]
            row.append((path, f"{mark} {task.classes[other]}\n{_named(path)}"))
        rows.append(row)
    return rows


def _named(path: str) -> str:
    """The end of a path that tells which file it is."""
    return "/".join(Path(path).parts[-2:])


def _texts(evaluation: Evaluation, example: Example) -> list[tuple[str, str, str, str]]:
    task, query = evaluation.task, example.query
    label = task.query_labels[query]
    return [
        (
            task.query_names[query],
            f"{name}: AP {score:.3f}",
            task.gallery_names[found[0]],
            "yes" if task.gallery_labels[found[0]] == label else "no",
        )
        for name, score, found in _found(evaluation, example)
    ]
