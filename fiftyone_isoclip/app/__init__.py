"""What the FiftyOne App offers: the operators, and later the panels, that plugin.py registers."""

from __future__ import annotations

from typing import Any

from fiftyone_isoclip.app.duplicates import FindNearDuplicates
from fiftyone_isoclip.app.embed import ComputeEmbeddings

OPERATORS: tuple[type[Any], ...] = (ComputeEmbeddings, FindNearDuplicates)
PANELS: tuple[type[Any], ...] = ()

__all__ = ["OPERATORS", "PANELS", "ComputeEmbeddings", "FindNearDuplicates"]
