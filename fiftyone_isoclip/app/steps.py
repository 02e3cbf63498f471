"""Work that tells how far it is: live in the App, awaited elsewhere, stopped when nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Semaphore
from typing import Any, TypeVar

from fiftyone_isoclip.errors import IsoClipError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done; ``share`` of it is done, in [0, 1], or None if that cannot be known."""

    label: str
    share: float | None = None


Steps = Generator[Step, None, Result]
"""Yields what is being done, and returns the result."""


def finish(steps: Steps[Result], tell: Callable[[Step], object]) -> Result:
    """Run steps to their end, telling each, and return their result.

    An error of ``tell`` ends the steps, and what they do at that moment, before it is raised.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        try:
            tell(step)
        except Exception as error:
            # Steps may end by themselves when they are told, or yield once more.
            with closing(steps), suppress(StopIteration):
                steps.throw(error)
            raise


PATIENCE_SECONDS = 20.0
"""How long work waits, once it told how far it is, until somebody wants to know more."""


class _AbandonedError(IsoClipError):
    """Ends work whose steps are no longer read."""


def follow(
    label: str, work: Callable[[Callable[[int, int | None], None]], Result]
) -> Steps[Result]:
    """Do work that calls a function with how much is done and in all; yield a step each time.

    If the steps are no longer read (the App's page was closed), the work waits at its next call,
    which for embedding is after the batch at hand, and ends; what it stored stays.
    """
    told: SimpleQueue[Step | None] = SimpleQueue()
    wanted, left = Semaphore(0), Event()

    def tell(done: int, total: int | None) -> None:
        # The server only forgets a stream that nobody reads: it is closed as garbage, at some time.
        if not wanted.acquire(timeout=PATIENCE_SECONDS) or left.is_set():
            raise _AbandonedError(
                f"nobody read for {PATIENCE_SECONDS:.0f} s how far this was, so it was stopped; "
                "what it stored is kept"
            )
        share = None if total is None else done / max(1, total)
        told.put(Step(f"{label}: {done} of {total}", share))

    worker = ThreadPoolExecutor(1, thread_name_prefix="isoclip-operator")
    doing = worker.submit(work, tell)
    # Not waited for: the server closes the steps in the thread that answers all its requests.
    worker.shutdown(wait=False)
    doing.add_done_callback(lambda _: told.put(None))
    try:
        wanted.release()
        while (step := told.get()) is not None:
            yield step
            wanted.release()
    except Exception:
        # Thrown in by `finish`, whose thread nobody else waits for.
        left.set()
        wanted.release()
        wait([doing])
        raise
    finally:
        left.set()
        wanted.release()
    return doing.result()


def by_bar(tell: Callable[[int, int | None], None]) -> Callable[[Any], None]:
    """What `follow` gives its work, for verbs that tell by FiftyOne's progress bar."""
    return lambda bar: tell(bar.iteration, bar.total)
