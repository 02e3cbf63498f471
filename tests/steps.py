"""Something happens at the n-th system call that changes the disk: a death, a stop, a full disk."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator

CALLS = ("mkdir", "open", "truncate", "write", "fsync", "replace", "unlink")
MOMENTS = {"before": CALLS, "halfway": ("write",), "after": CALLS}


class Steps:
    """Counts the calls; at one of them, before, halfway or after it, something happens."""

    def __init__(
        self, step: int, moment: str, happens: Callable[[], object], calls: Iterable[str]
    ) -> None:
        self.step, self.moment, self.happens = step, moment, happens
        self.calls = set(calls) & set(MOMENTS[moment])
        self.taken = 0

    def take(self, name: str, call: Callable, *args, **kwargs):
        if name not in self.calls:
            return call(*args, **kwargs)
        self.taken += 1
        if self.taken != self.step:
            return call(*args, **kwargs)
        try:
            if self.moment == "halfway":
                data = memoryview(args[-1]).cast("B")
                return call(*args[:-1], data[: len(data) // 2])
            return call(*args, **kwargs) if self.moment == "after" else None
        finally:  # also where the call itself fails, as it does for a folder that is there
            self.happens()


@contextlib.contextmanager
def at_step(
    step: int, moment: str, happens: Callable[[], object], calls: Iterable[str] = CALLS
) -> Iterator[Steps]:
    """Let it happen at this call, counted from 1, of those that the moment is about."""
    steps = Steps(step, moment, happens, calls)

    class Watched(io.FileIO):
        """What a file object of Python's writes goes through C otherwise."""

        def write(self, data):
            return steps.take("write", super().write, data)

    def watching(name, call):
        return lambda *args, **kwargs: steps.take(name, call, *args, **kwargs)

    def fdopen(handle, mode):
        return io.BufferedWriter(Watched(handle, mode))

    before = {name: getattr(os, name) for name in (*CALLS, "fdopen")}
    for name in CALLS:
        setattr(os, name, watching(name, before[name]))
    os.fdopen = fdopen
    try:
        yield steps
    finally:
        for name, call in before.items():
            setattr(os, name, call)
