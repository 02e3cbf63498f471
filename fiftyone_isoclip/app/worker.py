"""The worker's side of a scheduled run: it says that it lives, and stops when nobody wants the run.

FiftyOne keeps a run whose worker was killed as running for ever, and lets one that was marked as
failed go on to its end, unless `fiftyone delegated launch` monitors it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from fiftyone.factory.repo_factory import RepositoryFactory
from fiftyone.operators.executor import ExecutionRunState
from pymongo.errors import PyMongoError

from fiftyone_isoclip.errors import IsoClipError

BEAT_SECONDS = 2.0
"""How often a worker says that it lives."""


@contextmanager
def attend(operation: Any) -> Iterator[Callable[[], None]]:
    """Attend to a run while it is carried out; what this gives raises once nobody wants it.

    Args:
        operation: the id of FiftyOne's delegated operation.

    Raises:
        IsoClipError: by what it gives: the run was cancelled.
    """
    ended, unwanted = Event(), Event()
    beating = Thread(target=_beat, args=(operation, ended, unwanted), daemon=True)
    beating.start()

    def check() -> None:
        if unwanted.is_set():
            raise IsoClipError("it was cancelled; what it stored before is kept")

    try:
        yield check
    finally:
        ended.set()
        beating.join()


def _beat(operation: Any, ended: Event, unwanted: Event) -> None:
    runs = RepositoryFactory.delegated_operation_repo()
    while not ended.wait(BEAT_SECONDS):
        try:
            if runs.get(operation).run_state != ExecutionRunState.RUNNING:
                unwanted.set()
                return
            runs.ping(operation)
        except ValueError:  # it was deleted
            unwanted.set()
            return
        except PyMongoError:
            continue  # the work itself will say that the database is away
