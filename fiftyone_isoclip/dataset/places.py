"""Where this package keeps files of its own, and from where the App may have weights read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from platformdirs import user_data_path

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.installation import plugins_dir

MODELS_DIR = "FIFTYONE_ISOCLIP_MODELS_DIR"
"""The environment variable that names the folder of weights which the App may name by path."""

_NAME = re.compile(r"\w[\w.-]*")
_LONGEST_NAME = 200
"""Bytes; file systems take 255, of which endings and drafts need some."""


def side_folder() -> Path:
    """Where this package keeps files of its own: `FIFTYONE_ISOCLIP_DIR`, or the user's data folder.

    Raises:
        StoreError: it lies in FiftyOne's plugins folder, of which the App serves everything.
    """
    named = os.environ.get("FIFTYONE_ISOCLIP_DIR")
    folder = Path(named) if named else user_data_path("fiftyone-isoclip")
    if is_below(folder, plugins_dir()):
        raise StoreError(
            f"{folder}, where files of this package go, lies in FiftyOne's plugins folder, which "
            "the App gives to everybody who asks; set FIFTYONE_ISOCLIP_DIR to another folder"
        )
    return folder


def side_path(*names: str) -> Path:
    """A file or folder below `side_folder`, by the names of the folders above it and its own.

    Raises:
        StoreError: a name is not that of one file, or a link below the folder leads out of it.
    """
    for name in names:
        if not _NAME.fullmatch(name) or len(name.encode(errors="replace")) > _LONGEST_NAME:
            raise StoreError(
                f"{name[:_LONGEST_NAME]!r} cannot be the name of a file of this package; use up "
                f"to {_LONGEST_NAME} letters, digits, _, - and ., beginning with a letter, digit "
                "or _"
            )
    folder = side_folder()
    path = folder.joinpath(*names)
    if not is_below(path, folder):
        raise StoreError(f"{path} is a link that leads out of {folder}; remove the link")
    return path


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, once all links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself, too long, or with a NUL
        return False


def model_folders() -> tuple[Path, ...]:
    """From where the App may have weights read by path: `MODELS_DIR`, and FiftyOne's model zoo."""
    import fiftyone as fo

    named = os.environ.get(MODELS_DIR)
    return tuple(Path(folder) for folder in (named, fo.config.model_zoo_dir) if folder)
