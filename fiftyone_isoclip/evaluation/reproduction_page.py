"""A reproduction as rows, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any

from fiftyone_isoclip.evaluation.comparison import made_by
from fiftyone_isoclip.evaluation.methods import PLAIN, Kind
from fiftyone_isoclip.evaluation.paper import LATENCY, paper_figure
from fiftyone_isoclip.evaluation.report import Page, Table
from fiftyone_isoclip.evaluation.reproduction_means import find_means, image_results, verdict
from fiftyone_isoclip.evaluation.reproduction_results import Reproduction, SetResult
from fiftyone_isoclip.evaluation.scores import OWN_GALLERY
from fiftyone_isoclip.evaluation.set_scores import MAP
from fiftyone_isoclip.evaluation.sets import Survey
from fiftyone_isoclip.files.reports import list_failures

_NAMES: Mapping[Kind, str] = {"plain": PLAIN, "band": "IsoCLIP", "inversion": "OTI inversion"}


def make_rows(reproduction: Reproduction) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a table, a set each, with the paper's figures where there are any."""
    kinds = [
        kind
        for kind in _NAMES
        if any(each.kind == kind for result in reproduction.results for each in result.measured)
    ]
    columns = ["set", "queries", "gallery"]
    for kind in kinds:
        columns.append(_NAMES[kind])
        if reproduction.backbone:
            columns += ["paper", "difference"]
    rows = []
    for result in reproduction.results:
        found = {each.kind: (each.metrics[MAP], each.paper) for each in result.measured}
        sizes = [f"{n:,}" for n in (result.n_queries, result.n_gallery)]
        left = f" ({len(result.left_out)} left out)" if result.left_out else ""
        rows.append([result.name + left, *sizes, *_cells(reproduction, kinds, found)])
    means = {mean.kind: (mean.value, mean.paper) for mean in find_means(reproduction)}
    if means:
        n = len(image_results(reproduction))
        rows.append([f"mean of {n} image sets", "", "", *_cells(reproduction, kinds, means)])
        rows.append(["milliseconds a query", "", "", *_milliseconds(reproduction, kinds)])
    return columns, rows


def make_page(reproductions: Sequence[Reproduction], survey: Survey, root: str) -> Page:
    """The report on some checkpoints."""
    parts: list[Table] = []
    for each in reproductions:
        columns, rows = make_rows(each)
        cells = [[None if cell in ("", "-") else cell for cell in row] for row in rows]
        parts.append(
            Table(f"{each.checkpoint.name}: mAP in percent", describe(each), columns, cells)
        )
        parts += _metric_tables(each)
        if each.failed:
            failed = list(each.failed.items())
            parts.append(Table("Failed", "Sets that were not measured.", ("set", "reason"), failed))
    missing = {**survey.damaged, **survey.absent}
    if missing:
        note = "Sets that are not there or damaged."
        parts.append(Table("Not measured", note, ("set", "reason"), list(missing.items())))
    left = [
        (result.name, path, reason)
        for result in (reproductions[0].results if reproductions else ())
        for path, reason in result.left_out.items()
    ]
    if left:
        note = "These could not be read: the figures are of the others."
        parts.append(Table("Images left out", note, ("set", "image", "reason"), left))
    verdicts = "\n".join(verdict(each) for each in reproductions)
    return Page("The paper's experiment, run again", verdicts, parts, {"data": root})


def describe(reproduction: Reproduction) -> str:
    """The checkpoint, its bands and the protocol in a few sentences."""
    return (
        f"Weights: {made_by(reproduction.checkpoint.name)}. Bands: {reproduction.image_band} for "
        f"images, {reproduction.text_band} for texts; {reproduction.computed}. Queries, gallery "
        "and metric as in the paper's code; the figure of roxford and rparis is the mAP of the "
        "easy protocol, without distractors. Brackets hold 95 % of the luck of the queries, "
        f"{OWN_GALLERY:g} times as wide where the queries are the gallery. A query is timed alone, "
        "from its file to the ranks; the paper's milliseconds are of its own machine. Baselines "
        "beyond these are measured by `isoclip evaluate`."
    )


def to_json(reproduction: Reproduction) -> dict[str, Any]:
    """Everything but the single queries, as JSON values."""
    return {
        "verdict": verdict(reproduction),
        "checkpoint": reproduction.checkpoint.name,
        "weights": made_by(reproduction.checkpoint.name),
        "paper_backbone": reproduction.backbone,
        "image_band": str(reproduction.image_band),
        "text_band": str(reproduction.text_band),
        "computed": reproduction.computed,
        "sets": [_set_json(result) for result in reproduction.results],
        "means": [
            {
                "method": mean.name,
                "kind": mean.kind,
                "mAP": mean.value,
                "paper_mAP": mean.paper,
                "difference": None if mean.paper is None else mean.value - mean.paper,
            }
            for mean in find_means(reproduction)
        ],
        "failed": dict(reproduction.failed),
    }


def _set_json(result: SetResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "compared": "texts" if result.of_texts else "images",
        "queries": result.n_queries,
        "gallery": result.n_gallery,
        "intervals_widened": 1.0 if result.is_apart else OWN_GALLERY,
        "left_out": list_failures(result.left_out),
        "methods": [
            {
                "name": measured.method,
                "kind": measured.kind,
                "metrics": {
                    name: value if isfinite(value) else None
                    for name, value in measured.metrics.items()
                },
                "seconds_per_query": measured.seconds_per_query,
                "paper_mAP": measured.paper,
                "difference": measured.difference,
            }
            for measured in result.measured
        ],
    }


def _cells(
    reproduction: Reproduction,
    kinds: Sequence[Kind],
    found: Mapping[Kind, tuple[float, float | None]],
) -> list[str]:
    """For each method ours, and if the checkpoint is one of the paper's also its and the gap."""
    cells = []
    for kind in kinds:
        ours, paper = found.get(kind, (None, None))
        cells.append("-" if ours is None else f"{ours:.1f}")
        if reproduction.backbone:
            gap = "-" if ours is None or paper is None else f"{ours - paper:+.1f}"
            cells += ["-" if paper is None else f"{paper:.1f}", gap]
    return cells


def _milliseconds(reproduction: Reproduction, kinds: Sequence[Kind]) -> list[str]:
    """The median over the sets, and the paper's; what machines differ by is no difference."""
    cells = []
    for kind in kinds:
        seconds = [
            measured.seconds_per_query
            for result in image_results(reproduction)
            for measured in result.measured
            if measured.kind == kind and measured.seconds_per_query is not None
        ]
        cells.append(f"{1000 * median(seconds):.1f}" if seconds else "-")
        if reproduction.backbone:
            paper = paper_figure(kind, reproduction.backbone, LATENCY)
            cells += ["-" if paper is None else f"{paper:.0f}", "-"]
    return cells


def _metric_tables(reproduction: Reproduction) -> list[Table]:
    """Every metric in percent: what has labels, and landmarks by difficulty."""
    tables = []
    for title, of_landmarks in (("all metrics", False), ("landmarks by difficulty", True)):
        scored = [
            (result.name, measured)
            for result in reproduction.results
            for measured in result.measured
            if (f"{MAP} easy" in measured.metrics) == of_landmarks
        ]
        names = dict.fromkeys(name for _, measured in scored for name in measured.metrics)
        rows = [
            [name, measured.method, *(measured.metrics.get(metric) for metric in names)]
            for name, measured in scored
        ]
        if rows:
            title = f"{reproduction.checkpoint.name}: {title}"
            tables.append(Table(title, "In percent.", ["set", "method", *names], rows))
    return tables
