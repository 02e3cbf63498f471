"""The figures of the paper, and which checkpoints they are of."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fiftyone_isoclip.encoder.checkpoints import Checkpoint, list_checkpoints
from fiftyone_isoclip.evaluation.methods import Kind

BACKBONES: Mapping[str, str] = {
    "isoclip-vit-b-32-openai": "ViT-B/32",
    "isoclip-vit-b-16-openai": "ViT-B/16",
    "isoclip-vit-l-14-openai": "ViT-L/14",
    "isoclip-vit-b-16-datacomp-xl": "ViT-B/16-open",
}
"""Checkpoints of the paper's table, and what it calls them."""

LATENCY = "latency_ms"
"""The column of the milliseconds a query, measured by the paper's authors on their machine."""

_METHODS: Mapping[Kind, str] = {"plain": "clip", "band": "isoclip", "inversion": "oti"}


def paper_backbone(checkpoint: Checkpoint) -> str | None:
    """What the paper calls a checkpoint; None for every one that is not in its table."""
    if checkpoint not in list_checkpoints():  # other weights under a name that is known
        return None
    return BACKBONES.get(checkpoint.name)


def paper_figure(kind: Kind, backbone: str | None, column: str) -> float | None:
    """The mAP in percent of a method on a set, or another column; None if the paper has none."""
    return paper_table().get((_METHODS.get(kind, ""), backbone or ""), {}).get(column)


@cache
def paper_table() -> Mapping[tuple[str, str], Mapping[str, float]]:
    """The paper's figures: (method, backbone) -> set -> mAP in percent.

    The column ``avg`` is as it was printed, and for IsoCLIP on both ViT-B/16 .3 below the mean of
    the thirteen figures beside it.
    """
    text = files("fiftyone_isoclip.evaluation.sets").joinpath("paper_table.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        (row.pop("method"), row.pop("backbone")): {name: float(row[name]) for name in row}
        for row in rows
    }
