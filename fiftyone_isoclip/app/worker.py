"""The worker's side of a scheduled run: it says how far it is, and stops when nobody wants the run.

FiftyOne keeps a run whose worker was killed as running for ever, and lets one that was marked as
failed go on to its end, unless `fiftyone delegated launch` monitors it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from fiftyone.factory.repo_factory import RepositoryFactory
from fiftyone.operators.executor import ExecutionProgress, ExecutionRunState
from pymongo.errors import PyMongoError

from fiftyone_isoclip.app.steps import Step
from fiftyone_isoclip.errors import IsoClipError

BEAT_SECONDS = 1.0
"""How often a worker says that it lives, and how far it is."""

CANCELLED = "it was cancelled; what it stored before is kept"


@contextmanager
def attend(operation: Any) -> Iterator[Callable[[Step], None]]:
    """Attend to a run while it is carried out; what this gives is told each of its steps.

    Args:
        operation: the id of FiftyOne's delegated operation.

    Raises:
        IsoClipError: by what it gives: the run was cancelled.
    """
    ended, unwanted = Event(), Event()
    # A step can take less than to write that it was taken: only the latest is, at each beat.
    latest: deque[Step] = deque(maxlen=1)
    beating = Thread(target=_beat, args=(operation, latest, ended, unwanted), daemon=True)
    beating.start()

    def tell(step: Step) -> None:
        if unwanted.is_set():
            raise IsoClipError(CANCELLED)
        latest.append(step)

    try:
        yield tell
    finally:
        ended.set()
        beating.join()


def _beat(operation: Any, latest: deque[Step], ended: Event, unwanted: Event) -> None:
    runs = RepositoryFactory.delegated_operation_repo()
    told = None
    while True:
        over = ended.wait(BEAT_SECONDS)
        try:
            if runs.get(operation).run_state != ExecutionRunState.RUNNING:
                unwanted.set()
                return
            runs.ping(operation)
            if latest and latest[-1] is not told:  # the last one, too, of a run that took no beat
                told = latest[-1]
                runs.update_progress(operation, ExecutionProgress(told.share, told.label))
        except ValueError:  # it was deleted
            unwanted.set()
            return
        except PyMongoError:
            pass  # the work itself will say that the database is away
        if over:
            return
