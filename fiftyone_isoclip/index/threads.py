"""Work shared among threads, each of which multiplies alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

Result = TypeVar("Result")

_AHEAD = 4


def blas_threads() -> int:
    """Count the threads that NumPy's BLAS is allowed: the cores, unless the user said fewer."""
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max(pools, default=1)


def in_threads(
    work: Callable[..., Result], items: Iterable[tuple[object, ...]], threads: int
) -> Iterator[Result]:
    """Do work on each item, a few ahead, and hand the results out in the order of the items.

    With more than one thread the BLAS is kept to one of its own a call: products of cells are too
    small to be shared, and what surrounds them is not shared at all. An error, or leaving off,
    waits for the work that has begun.
    """
    if threads <= 1:
        for item in items:
            yield work(*item)
        return
    waiting: deque[Future[Result]] = deque()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, *item))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
