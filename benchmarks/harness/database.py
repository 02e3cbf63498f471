"""A database of a benchmark's own, so that nobody's datasets are touched."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def own_database() -> Iterator[Path]:
    """Start a MongoDB in a new folder, and point FiftyOne and this package there.

    FiftyOne reads where its database is when it is imported: import it inside.
    """
    sys.path.insert(0, str(ROOT))
    from fiftyone_isoclip.installation import bundled_mongod
    from tests.mongod import Mongod

    with tempfile.TemporaryDirectory(prefix="isoclip-bench-") as name:
        mongod = Mongod(bundled_mongod(), Path(name) / "database")
        mongod.start()
        os.environ |= {
            "FIFTYONE_DATABASE_URI": mongod.uri,
            "FIFTYONE_DATABASE_NAME": "benchmark",
            "FIFTYONE_DO_NOT_TRACK": "1",
            "FIFTYONE_SHOW_PROGRESS_BARS": "0",
            "FIFTYONE_ISOCLIP_DIR": f"{name}/isoclip",
        }
        try:
            yield Path(name)
        finally:
            mongod.remove()
