"""How fast this machine embedded last time, to say what the next time will take."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.whole_files import write_whole

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: a form asks for a speed without

logger = logging.getLogger(__name__)

LEAST_IMAGES = 32
"""Fewer say nothing of many: starting takes longer than they do."""


def remember_speed(clip: Clip, images: int, seconds: float) -> None:
    """Note how long a model took to embed some images; too few are not noted.

    A note that cannot be written is left out and said in the log.
    """
    if images < LEAST_IMAGES or seconds <= 0:
        return
    name = _name(clip.checkpoint.name, clip.device, clip.precision)
    speeds = _read() | {name: images / seconds}
    content = json.dumps(speeds, indent=2).encode()
    try:
        write_whole(_path(), lambda file: file.write(content), len(content), make_folder=True)
    except StoreError as error:
        logger.info("the speed of embedding is not remembered: %s", error)


def recall_speed(checkpoint: str, device: str, precision: str) -> float | None:
    """Images a second that were embedded last time, read from disk to stored; None if never."""
    return _read().get(_name(checkpoint, device, precision))


def _read() -> dict[str, float]:
    try:
        found = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: float(speed) for name, speed in pairs if _is_speed(speed)}


def _is_speed(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _path() -> Path:
    return side_folder() / "speeds.json"


def _name(checkpoint: str, device: str, precision: str) -> str:
    return f"{checkpoint} on {device} in {precision}"
