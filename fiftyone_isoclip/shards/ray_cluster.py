"""A Ray to work on: that of a cluster, or one begun on this machine and ended with the work."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fiftyone_isoclip.errors import IsoClipError

# Read when Ray is imported. Below "fatal" its C++ parts tell the user of their own affairs as if
# they were errors; what goes wrong comes as an exception.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

try:
    import ray
    import ray.data
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise IsoClipError(
        "the engine ray needs Ray; install it with: pip install 'fiftyone-isoclip[ray]'"
    ) from error

__all__ = ["heard", "open_cluster", "ray", "said"]

_SETTINGS = "FIFTYONE_ISOCLIP_MAX_"

_PATIENCE = 20.0
"""Seconds in which a cluster has to take a connection."""


@contextmanager
def open_cluster(device: str, object_store_bytes: int) -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or begin a Ray on this machine and end it.

    ``object_store_bytes`` is the memory that a Ray begun here may share.

    Raises:
        IsoClipError: there is no such cluster or device, or Ray itself gave up.
    """
    begun = not ray.is_initialized()
    try:
        if begun:
            _begin(device, object_store_bytes)
        yield
    except RayTaskError:  # a defect in what ran: its traceback is wanted
        raise
    except (RayError, ConnectionError) as error:
        raise IsoClipError(
            f"Ray gave up: {str(error).splitlines()[0]} What is stored stays; run this again once "
            "the cluster can be reached (with its RAY_AUTH_MODE and RAY_AUTH_TOKEN, if it has one)"
        ) from error
    finally:
        if begun:
            ray.shutdown()


def said(work: Callable[..., Any], *args: Any, nothing: Any = "") -> dict[str, Any]:
    """What some work answers, or the sentence with which it gives up: Ray would lose it."""
    try:
        return {"said": work(*args), "sentence": ""}
    except IsoClipError as error:
        return {"said": nothing, "sentence": str(error)}


def heard(answer: Mapping[str, Any]) -> Any:
    """What a worker answers.

    Raises:
        IsoClipError: it gave up, in its own words.
    """
    if answer["sentence"]:
        raise IsoClipError(answer["sentence"])
    return answer["said"]


def _begin(device: str, object_store_bytes: int) -> None:
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # What a picture may cost is the same on every machine: that of this process.
    settings = {name: text for name, text in os.environ.items() if name.startswith(_SETTINGS)}
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": settings},
    }
    if "RAY_ADDRESS" in os.environ:
        _require_answer(os.environ["RAY_ADDRESS"])
        ray.init(**quiet)
        return
    own = {"include_dashboard": False, "object_store_memory": object_store_bytes}
    ray.init(address="local", **own, **quiet)
    if device.startswith("cuda") and not ray.cluster_resources().get("GPU"):
        # Ray would wait for one; a cluster that grows by itself may get one.
        raise IsoClipError(f"device {device!r} was asked for, and Ray finds no GPU here")


def _require_answer(address: str) -> None:
    # Ray itself asks for minutes, and then ends the process.
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # "auto" and "local" name no machine
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise ConnectionError(f"nothing answers at {address} ({error}).") from error
