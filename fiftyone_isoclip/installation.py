"""What FiftyOne is told and what it brought along, read without importing it.

Importing FiftyOne takes seconds, starts its database, and raises where there is none to start.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import re
import subprocess
from pathlib import Path

from fiftyone_isoclip.errors import IsoClipError

LOOPBACK = "localhost"
"""An address that only this machine reaches, as FiftyOne names it."""

OLDEST_MONGODB = (6, 0)
"""FiftyOne's own minimum."""


def database_uri() -> str | None:
    """The MongoDB that the user gave FiftyOne, by environment or by configuration file."""
    return _setting("database_uri")


def plugins_dir() -> Path:
    """The folder in which FiftyOne looks for plugins."""
    return Path(_setting("plugins_dir") or Path.home() / "fiftyone" / "__plugins__")


def app_address() -> str:
    """The address at which FiftyOne's App listens unless it is told another one."""
    return _setting("default_app_address") or LOOPBACK


def open_doors(address: str) -> list[str]:
    """Who but this machine's own App could use an App that listens at an address, as sentences."""
    doors = []
    if not _is_loopback(address):
        doors.append(
            f"the App listens at {address}, not only to this machine: whoever reaches its port can "
            "read every file that its user can read, and run operators; let it listen at "
            f"{LOOPBACK} and reach it through an SSH tunnel, or keep others off by a firewall"
        )
    if "*" in (_setting("allowed_origins") or ""):
        doors.append(
            "FiftyOne's allowed_origins are *: every web page that this machine's browser shows "
            "can read what the App's server answers, and so run operators; name the origins"
        )
    return doors


def bundled_mongod() -> Path:
    """The binary that FiftyOne starts, whether or not it is there.

    Raises:
        IsoClipError: FiftyOne is not installed.
    """
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or spec.origin is None:
        raise IsoClipError("FiftyOne is not installed; run `pip install fiftyone`")
    return Path(spec.origin).parent / "db" / "bin" / "mongod"


def mongod_version(binary: Path) -> str | None:
    """The version that a mongod reports, such as "6.0.27"; None if it does not run."""
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"db version v(\d+(?:\.\d+)*)", shown.stdout)
    return found.group(1) if found and shown.returncode == 0 else None


def is_recent(version: str) -> bool:
    """Whether FiftyOne takes this version of MongoDB."""
    return tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_MONGODB


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        return address == LOOPBACK


def _setting(name: str) -> str | None:
    """A FiftyOne setting, in FiftyOne's order: the environment, then its configuration file."""
    if named := os.environ.get(f"FIFTYONE_{name.upper()}"):
        return named
    default = Path.home() / ".fiftyone" / "config.json"
    config = Path(os.environ.get("FIFTYONE_CONFIG_PATH", default))
    if not config.is_file():
        return None
    try:
        found = json.loads(config.read_text()).get(name)
    except (OSError, ValueError) as error:
        raise IsoClipError(
            f"FiftyOne's configuration {config} cannot be read as JSON ({error}); mend or remove it"
        ) from error
    return str(found) if found else None
