"""One writer at a time for a name of a dataset: the second is told who the first is, since when.

The operating system keeps the locks, so it frees what a killed process held. They bind the
processes and threads of one machine that share the folder for this package's files, and only this
package: FiftyOne's own methods do not ask.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

import fiftyone as fo
import psutil
from filelock import FileLock, Timeout
from pymongo.errors import ConnectionFailure

from fiftyone_isoclip.dataset.fields import check_alive, check_key, dataset_of, look_anew
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.errors import DatasetError

P = ParamSpec("P")
T = TypeVar("T")

A_MOMENT = 2.0
"""Seconds for which a writer waits that takes a moment itself, such as a click in a review."""

INTRODUCTION_SECONDS = 2.0
"""How long the second waits to learn who the first is, which says so once it has the lock."""

PATIENCE_SECONDS = 180.0
"""How long a writer waits for one of another name who adds or deletes fields."""


def one_writer(*names: str, patience: float = 0.0) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a verb write one at a time what these arguments of it name, joined by dots.

    The verb's first argument is a dataset or view; see `hold` for the rest. If the database goes
    away while the verb reads, it says so.
    """

    def decorate(verb: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(verb)

        @functools.wraps(verb)
        def alone(*args: P.args, **kwargs: P.kwargs) -> T:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            dataset = dataset_of(next(iter(given.arguments.values())))
            parts = (given.arguments[name] for name in names)
            name = ".".join(str(part) for part in parts if part is not None)
            try:
                with told_if_away(dataset.name), hold(dataset, name, patience=patience):
                    return verb(*args, **kwargs)
            except Exception:
                with suppress(ConnectionFailure):
                    check_alive(dataset)  # FiftyOne's own words for it are of documents
                raise

        return alone

    return decorate


@contextmanager
def told_if_away(name: str) -> Iterator[None]:
    """Say what to do if the database goes away while a dataset is read.

    Raises:
        DatasetError: it did.
    """
    try:
        yield
    except ConnectionFailure as error:
        raise DatasetError(
            f"the database went away while {name!r} was read: {error}; what was saved before is "
            "kept, run the same again once it is back"
        ) from error


@contextmanager
def hold(dataset: fo.Dataset, name: str, *, patience: float = 0.0) -> Iterator[None]:
    """Be the one who writes what a name stands for: a field, a run, a brain run.

    A thread may hold a name again that it holds; other names do not wait. What another process
    wrote before is seen here from now on.

    Args:
        dataset: a clone has its own names, a renamed dataset keeps them.
        name: what is going to be written.
        patience: seconds to wait for another writer.

    Raises:
        DatasetError: another process or thread writes it, or nothing can be locked.
    """
    with _locked(dataset, name, patience) as first:
        if first:
            look_anew(dataset)
        yield


@contextmanager
def hold_record(dataset: fo.Dataset) -> Iterator[None]:
    """Be the one who changes which fields, runs and views a dataset has.

    FiftyOne reads these lists, changes them and writes them back: what another process put there
    in between would be gone.

    Raises:
        DatasetError: another process keeps on changing them, or nothing can be locked.
    """
    with _locked(dataset, "fields, runs and views", PATIENCE_SECONDS):
        dataset._doc.reload()
        yield


def check_brain_key(dataset: fo.Dataset, key: str) -> None:
    """Make sure that a brain run can be built under a key.

    Raises:
        DatasetError: the key is malformed, or there is a run of that name.
    """
    check_key(key)
    dataset.reload()  # another process may have finished one
    if dataset.has_brain_run(key):
        raise DatasetError(
            f"dataset {dataset.name!r} has a brain run {key!r} already; choose another key, "
            f"or delete it with dataset.delete_brain_run({key!r})"
        )


@contextmanager
def _locked(dataset: fo.Dataset, name: str, patience: float) -> Iterator[bool]:
    """Lock a name; whether this thread did not hold it before."""
    place = _place(dataset, name)
    holder = place.with_suffix(".json")
    lock = FileLock(place.with_suffix(".lock"), is_singleton=True)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(timeout=patience)
    except Timeout as error:
        raise DatasetError(
            f"{name!r} of dataset {dataset.name!r} is being written by {_told(holder)}; wait until "
            "it has ended (a killed process frees it), or use another name"
        ) from error
    except OSError as error:
        raise DatasetError(
            f"{error.filename or place} cannot be written ({error.strerror}), and {name!r} of "
            f"dataset {dataset.name!r} needs a lock there; make room, or set FIFTYONE_ISOCLIP_DIR "
            "to a folder that can be written, the same for all processes"
        ) from error
    with held:
        if lock.lock_counter > 1:
            yield False
            return
        _tell(holder)
        try:
            yield True
        finally:
            holder.unlink(missing_ok=True)


def _place(dataset: fo.Dataset, name: str) -> Path:
    """Where the lock of a name lies; a name can be anything, a file's name cannot."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return side_folder() / "locks" / f"{dataset._doc.id}-{digest}"


def _tell(holder: Path) -> None:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    who = {"process": os.getpid(), "machine": socket.gethostname(), "since": since}
    try:
        holder.write_text(json.dumps(who))
    except OSError:
        holder.unlink(missing_ok=True)  # the lock holds on a full disk, too


def _told(holder: Path) -> str:
    """Who holds a lock, for people: nobody who was killed before it changed hands."""
    deadline = time.monotonic() + INTRODUCTION_SECONDS
    while True:
        try:
            who = json.loads(holder.read_text())
            process, machine, since = (str(who[part]) for part in ("process", "machine", "since"))
            if machine == socket.gethostname():
                # The number of a killed process may be another one's by now.
                begun = psutil.Process(int(process)).create_time()
                if begun > datetime.fromisoformat(since).timestamp() + 1:
                    raise ValueError(process)
            return f"process {process} on {machine} since {since}"
        except (OSError, ValueError, TypeError, KeyError, psutil.Error):
            if time.monotonic() > deadline:
                return "another process that began a moment ago"
            time.sleep(0.02)
