"""FiftyOne's entry: registers the operators and panels of `fiftyone_isoclip.app`.

FiftyOne runs this file again on every request, under a name of its own: so it keeps nothing, and
imports by absolute names, lest each class exist twice.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

if importlib.util.find_spec("fiftyone_isoclip") is None:
    # Appended, never put first: an installed package wins over a downloaded plugin folder.
    sys.path.append(str(Path(__file__).resolve().parent.parent))


def register(p: Any) -> None:
    """Offer all operators and panels, and make models and the index known to this process."""
    from fiftyone_isoclip import dataset
    from fiftyone_isoclip.app import OPERATORS, PANELS
    from fiftyone_isoclip.install import warn_of_skew

    warn_of_skew(p.plugin_definition.version)
    dataset.register()
    for offered in (*OPERATORS, *PANELS):
        p.register(offered)
