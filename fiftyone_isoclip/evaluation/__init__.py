"""Evidence: metrics, the methods that are compared, tuning, data sets of the paper, and reports.

Public names are loaded on first use: a report is written without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.copy_detection import (
        CopyEvaluation,
        CopyTask,
        evaluate_copies,
    )
    from fiftyone_isoclip.evaluation.evaluate import Evaluation, Task, evaluate_retrieval
    from fiftyone_isoclip.evaluation.methods import Method, make_methods
    from fiftyone_isoclip.evaluation.report import Page, Pictures, Plot, Table, write_page

__all__ = [
    "CopyEvaluation",
    "CopyTask",
    "Evaluation",
    "Method",
    "Page",
    "Pictures",
    "Plot",
    "Table",
    "Task",
    "evaluate_copies",
    "evaluate_retrieval",
    "make_methods",
    "write_page",
]

_HOMES = {
    "copy_detection": ["CopyEvaluation", "CopyTask", "evaluate_copies"],
    "evaluate": ["Evaluation", "Task", "evaluate_retrieval"],
    "methods": ["Method", "make_methods"],
    "report": ["Page", "Pictures", "Plot", "Table", "write_page"],
}

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
