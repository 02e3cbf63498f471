"""The App's side of an installed package: a small folder among FiftyOne's plugins.

FiftyOne finds plugins by folder and not by installed package, so `install_plugin` writes a folder
whose entry imports the package. `fiftyone plugins delete @isoclip/isoclip` takes it away again.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fiftyone_isoclip import __version__, installation
from fiftyone_isoclip.errors import IsoClipError

PLUGIN_NAME = "@isoclip/isoclip"
METADATA = "fiftyone.yml"
ASSETS = "assets"
SKILLS = "skills"
ENTRY = "__init__.py"
SHIM = '''"""Offers the installed package fiftyone_isoclip to the FiftyOne App."""

from fiftyone_isoclip.plugin import register

__all__ = ["register"]
'''

_REMEDY = "run `isoclip install`"


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """What FiftyOne's plugins folder offers of this package.

    Attributes:
        plugins_dir: The folder that FiftyOne searches.
        path: The plugin's folder; None if there is none.
        version: The version that its fiftyone.yml states; None if there is none.
        problem: A sentence with a remedy; None if the App offers this very version.
    """

    plugins_dir: Path
    path: Path | None
    version: str | None
    problem: str | None


def install_plugin(plugins_dir: str | Path | None = None) -> Path:
    """Put the plugin's folder into FiftyOne's plugins folder and return it; again changes nothing.

    Args:
        plugins_dir: Where FiftyOne searches for plugins; by default the configured one.

    Raises:
        IsoClipError: another folder there already holds the plugin, or nothing can be written.
    """
    root = _root(plugins_dir)
    target = root.joinpath(*PLUGIN_NAME.split("/"))
    found = _find_plugin(root)
    if found not in (None, target):
        raise IsoClipError(
            f"{found} already holds the plugin {PLUGIN_NAME}; to have this package's own instead, "
            f"run `fiftyone plugins delete {PLUGIN_NAME}` first, or remove that folder"
        )
    files = _plugin_files()
    if _holds(target, files):
        return target
    try:
        _put(files, target)
    except OSError as error:
        raise IsoClipError(
            f"The plugin cannot be written to {target} ({error.strerror or error}); choose another "
            f"plugins folder with FIFTYONE_PLUGINS_DIR"
        ) from error
    return target


def plugin_status(plugins_dir: str | Path | None = None) -> PluginStatus:
    """Say whether the App offers this package's operators, and what to do if not."""
    root = _root(plugins_dir)
    path = _find_plugin(root)
    if path is None:
        missing = f"The App does not offer IsoCLIP: {root} holds no {PLUGIN_NAME}; {_REMEDY}"
        return PluginStatus(root, None, None, missing)
    version = _stated(path / METADATA, "version")
    return PluginStatus(root, path, version, skew(version))


def skew(version: str | None) -> str | None:
    """Say what is wrong if a plugin's folder states another version than the package's own."""
    if version == __version__:
        return None
    return (
        f"FiftyOne's plugins folder holds {PLUGIN_NAME} {version}, but the package imported is "
        f"{__version__}, so operators can be missing in the App; {_REMEDY}"
    )


@cache  # FiftyOne registers plugins on every request; once a process is enough
def warn_of_skew(version: str | None) -> None:
    """Log a warning if a plugin's folder states another version than the package's own."""
    if problem := skew(version):
        logging.getLogger(__name__).warning(problem)


def _root(given: str | Path | None) -> Path:
    return installation.plugins_dir() if given is None else Path(given).expanduser()


def _plugin_files() -> dict[str, bytes]:
    """The plugin's folder, relative path by relative path."""
    package = Path(__file__).resolve().parent
    # A wheel carries them inside the package; a checkout has them at its root.
    places = (package / "_plugin", package.parent)
    source = next((place for place in places if (place / METADATA).is_file()), None)
    if source is None:
        raise IsoClipError(
            f"{METADATA} is neither in {places[0]} nor in {places[1]}, so this "
            "installation is incomplete; install fiftyone-isoclip again"
        )
    metadata = (source / METADATA).read_text()
    entry = re.sub(r"^py_entry:.*$", f"py_entry: {ENTRY}", metadata, flags=re.MULTILINE)
    copied = [*(source / ASSETS).glob("*.svg"), *(source / SKILLS).glob("*/SKILL.md")]
    copies = {path.relative_to(source).as_posix(): path.read_bytes() for path in copied}
    return {METADATA: entry.encode(), ENTRY: SHIM.encode(), **copies}


def _holds(folder: Path, files: dict[str, bytes]) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).read_bytes() == content
        for name, content in files.items()
    )


def _put(files: dict[str, bytes], target: Path) -> None:
    """Build the folder beside its place, then move it there whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A dot in front: FiftyOne does not look for plugins in hidden folders.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".isoclip-") as made:
        staged = Path(made) / "new"
        for name, content in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(content)
        if target.exists():
            target.rename(Path(made) / "old")
        staged.rename(target)


def _find_plugin(root: Path) -> Path | None:
    """The folder from which FiftyOne would load the plugin, found the way FiftyOne does."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in {METADATA, "fiftyone.yaml"}.intersection(names):
            folders.clear()
            if _stated(Path(folder, name), "name") == PLUGIN_NAME:
                return Path(folder)
    return None


def _stated(metadata: Path, key: str) -> str | None:
    try:
        found = re.search(rf"^{key}:\s*(.+?)\s*$", metadata.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip("\"'") if found else None
