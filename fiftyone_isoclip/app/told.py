"""What the App is told of an error: our own sentence, and no path that was not asked for there."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from fiftyone_isoclip.errors import IsoClipError

_ROOT = r"(?:/|~/|[A-Za-z]:[\\/])"
_QUOTED = re.compile(rf"""(?P<quote>['"])(?P<path>{_ROOT}.*?)(?P=quote)""", re.DOTALL)
_BARE = re.compile(rf"""(?<![\w/.:])(?P<path>{_ROOT}[^\s'",;()<>]+)""")


def tell_error(
    error: Exception,
    asked: Mapping[str, Any],
    logger: logging.Logger,
    log: str = "the log of the App's server",
) -> str:
    """A sentence for the App; what it leaves out is logged.

    Args:
        error: what was raised.
        asked: the parameters of the request; paths in them may be told again.
        logger: where an error that is not one of ours is written in full.
        log: what a person calls the place that ``logger`` writes to.
    """
    if isinstance(error, IsoClipError):
        told = without_paths(str(error), asked)
        if told != str(error):
            logger.warning("%s", error)
        return told
    # Its message is somebody else's: it can hold anything, such as a path or a password.
    number = secrets.token_hex(4)
    logger.error("error %s", number, exc_info=error)
    return f"{type(error).__name__}: look for error {number} in {log}"


def without_paths(sentence: str, asked: Mapping[str, Any]) -> str:
    """A sentence in which absolute paths are cut down to their last part, but for those asked."""
    known = list(_texts(asked.values()))

    def cut(found: re.Match[str]) -> str:
        path = found["path"]
        bare = path.rstrip(".:!?")
        if any(bare in text for text in known):
            return found[0]
        return found[0].replace(path, f".../{PurePath(bare).name}{path[len(bare) :]}")

    return _BARE.sub(cut, _QUOTED.sub(cut, sentence))


def _texts(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)
