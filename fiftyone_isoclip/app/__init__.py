"""What the FiftyOne App offers: the operators, and the panel that plugin.py registers."""

from __future__ import annotations

from typing import Any

from fiftyone_isoclip.app.duplicates import FindNearDuplicates
from fiftyone_isoclip.app.embed import ComputeEmbeddings
from fiftyone_isoclip.app.panel import IsoClipPanel

OPERATORS: tuple[type[Any], ...] = (ComputeEmbeddings, FindNearDuplicates)
PANELS: tuple[type[Any], ...] = (IsoClipPanel,)

__all__ = ["OPERATORS", "PANELS", "ComputeEmbeddings", "FindNearDuplicates", "IsoClipPanel"]
