"""The panel "IsoCLIP": duplicates, leaks, clusters, the space itself, and the runs of a dataset.

What is shown is made anew from the dataset and a few choices after every event. The choices are all
that travels: the App sends a panel's state with each request, so nothing else is ever put there.
"""

from __future__ import annotations

from fiftyone_isoclip.app.operator import PANEL
from fiftyone_isoclip.app.panel.panel import IsoClipPanel

__all__ = ["PANEL", "IsoClipPanel"]
