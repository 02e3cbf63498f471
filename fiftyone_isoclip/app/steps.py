"""Work that tells how far it is: live in the App, awaited elsewhere, stopped when nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done; ``share`` of it is done, in [0, 1], or None if that cannot be known."""

    label: str
    share: float | None = None


Steps = Generator[Step, None, Result]
"""Yields what is being done, and returns the result."""


def finish(steps: Steps[Result], tell: Callable[[Step], object]) -> Result:
    """Run steps to their end, telling each, and return their result."""
    while True:
        try:
            tell(next(steps))
        except StopIteration as end:
            result: Result = end.value
            return result


class _AbandonedError(Exception):
    """Ends work whose steps are no longer read."""


def follow(
    label: str, work: Callable[[Callable[[int, int | None], None]], Result]
) -> Steps[Result]:
    """Do work that calls a function with how much is done and in all; yield a step each time.

    If the steps are no longer read (the App's page was closed), the work ends at its next call,
    which for embedding is after the batch at hand; what it stored stays.
    """
    told: SimpleQueue[Step | None] = SimpleQueue()
    left = Event()

    def tell(done: int, total: int | None) -> None:
        if left.is_set():
            raise _AbandonedError
        share = None if total is None else done / max(1, total)
        told.put(Step(f"{label}: {done} of {total}", share))

    with ThreadPoolExecutor(1, thread_name_prefix="isoclip-operator") as worker:
        doing = worker.submit(work, tell)
        doing.add_done_callback(lambda _: told.put(None))
        try:
            yield from iter(told.get, None)
        finally:
            left.set()
        return doing.result()


def by_bar(tell: Callable[[int, int | None], None]) -> Callable[[Any], None]:
    """What `follow` gives its work, for verbs that tell by FiftyOne's progress bar."""
    return lambda bar: tell(bar.iteration, bar.total)
