"""What `isoclip doctor` looks at before a user wonders: versions, database, device, hub, plugin."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path


def database_uri() -> str | None:
    """The MongoDB that the user gave FiftyOne, by environment or by configuration file."""
    named = os.environ.get("FIFTYONE_DATABASE_URI")
    default = Path.home() / ".fiftyone" / "config.json"
    config = Path(os.environ.get("FIFTYONE_CONFIG_PATH", default))
    if named or not config.is_file():
        return named or None
    uri = json.loads(config.read_text()).get("database_uri")
    return str(uri) if uri else None


def bundled_mongod() -> Path:
    """The binary that FiftyOne starts, whether or not it is there; FiftyOne is not imported."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("FiftyOne is not installed; run `pip install fiftyone`")
    return Path(spec.origin).parent / "db" / "bin" / "mongod"


def mongod_version(binary: Path) -> str | None:
    """The version that a mongod reports, such as "6.0.27"; None if it does not run."""
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"db version v(\d+(?:\.\d+)*)", shown.stdout)
    return found.group(1) if found and shown.returncode == 0 else None
