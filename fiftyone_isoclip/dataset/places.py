"""Where this package keeps files of its own."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def side_folder() -> Path:
    """Where this package keeps files of its own: `FIFTYONE_ISOCLIP_DIR`, or the user's data folder.

    Never the plugins folder: the App serves everything in there.
    """
    named = os.environ.get("FIFTYONE_ISOCLIP_DIR")
    return Path(named) if named else user_data_path("fiftyone-isoclip")
