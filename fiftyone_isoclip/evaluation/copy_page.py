"""An evaluation of copy detection as a page: methods, kinds of edit, and a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_isoclip.evaluation.evaluation_page import (
    differences_table,
    means_plot,
    methods_table,
    notes_table,
)
from fiftyone_isoclip.evaluation.methods import PLAIN
from fiftyone_isoclip.evaluation.report import Page, Pictures, Plot, Table
from fiftyone_isoclip.evaluation.scores import DECISIVE, RECALL, MethodScores

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.copy_detection import CopyEvaluation

_EXAMPLES = 9
_IN_A_ROW = 6
"""Pictures, an edited one and its original in turn."""


def make_copy_page(evaluation: CopyEvaluation, parameters: Mapping[str, object]) -> Page:
    """The report of an evaluation of copy detection; the parameters are told beside its own."""
    task, comparison = evaluation.task, evaluation.comparison
    own = {
        "checkpoint": evaluation.checkpoint,
        "queries": f"{len(task.queries):,} edited pictures, {len(evaluation.attacks)} kinds",
        "intervals": "by bootstrap of the originals with all their edits, the gallery fixed",
        "gallery": f"{len(task.gallery):,} pictures, the originals and distractors",
        "left out": f"{len(task.unreadable):,} files that could not be read",
        "seed": evaluation.seed,
    }
    parts: list[Table | Plot | Pictures] = [
        methods_table(comparison),
        means_plot(comparison),
        differences_table(comparison),
        attacks_table(evaluation, RECALL, "The share of queries whose first result is right."),
        attacks_table(evaluation, DECISIVE, "The mean average precision of each edit's queries."),
        matches_table(evaluation),
        _examples(evaluation),
        notes_table(comparison),
    ]
    return Page(f"Copies in {task.name}", evaluation.verdict, parts, own | {**parameters})


def attacks_table(evaluation: CopyEvaluation, metric: str, note: str = "") -> Table:
    """A metric of the methods that matter, by kind of edit."""
    shown = _shown(evaluation)
    found = [evaluation.by_attack(method, metric) for method in shown]
    scored = ~np.isnan(evaluation.comparison.methods[0].values[metric])
    attacks = np.array(evaluation.task.attacks)[scored]
    rows = [
        (attack, int((attacks == attack).sum()), *(means[attack] for means in found))
        for attack in evaluation.attacks
    ]
    names = [method.name for method in shown]
    return Table(f"{metric} by kind of edit", note, ["edit", "queries", *names], rows)


def _shown(evaluation: CopyEvaluation) -> list[MethodScores]:
    """Plain CLIP, the best baseline, the best band, and what is no embedding, each once."""
    comparison = evaluation.comparison
    chosen = [comparison.of(PLAIN), comparison.best_baseline, comparison.best_band]
    chosen += [method for method in comparison.methods if method.kind == "hash"]
    return list({method.name: method for method in chosen}.values())


def matches_table(evaluation: CopyEvaluation) -> Table:
    """What one threshold for all queries would find, and what it would find wrongly."""
    rows = []
    for method in evaluation.comparison.methods:
        found = evaluation.matches(method.name)
        rows.append(
            (
                method.name,
                evaluation.micro_average_precision(method.name),
                round(found["pairs"]),
                found["precision"],
                found["recall"],
                found["false_queries"],
            )
        )
    return Table(
        f"One threshold for all queries, and matches at similarity {evaluation.similarity:g}",
        "Micro-AP: the area under precision over recall of all queries' best matches in one order. "
        "Then what all pairs at or above the similarity would be: the share of them that are "
        "copies, the share of all copies among them, and the share of queries with a false match. "
        "One and the same similarity is not equally strict in every method.",
        ["method", "micro-AP", "pairs", "precision", "recall", "queries with a false match"],
        rows,
    )


def _examples(evaluation: CopyEvaluation) -> Pictures:
    task, band = evaluation.task, evaluation.comparison.best_band
    scores = band.values["mAP"]
    original = {group: row for row, group in enumerate(task.gallery_groups.tolist())}
    worst = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:_EXAMPLES]
    shown = []
    for query in worst.tolist():
        if scores[query] < 1:
            asked = task.query_names[query]
            source = task.gallery_names[original[int(task.query_groups[query])]]
            told = f"{task.attacks[query]}\n{band.name}: average precision {scores[query]:.3f}"
            shown.append((asked, f"{Path(asked).name}\n{told}"))
            shown.append((source, f"{Path(source).name}\nits original"))
    rows = [shown[start : start + _IN_A_ROW] for start in range(0, len(shown), _IN_A_ROW)]
    return Pictures(
        "Copies found last",
        f"The edited pictures whose originals {band.name} ranks lowest: the extremes, not the "
        "average.",
        rows,
    )
