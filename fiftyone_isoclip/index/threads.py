"""How many threads the BLAS and faiss get, and work shared among threads of our own."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

_AHEAD = 4


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """Keep NumPy's BLAS to one thread a call; the body is given how many it had.

    That is the number of cores, unless the user said fewer. Small products and decompositions
    take longer shared among threads than alone, on a busy machine a hundred times longer.
    """
    controller = ThreadpoolController()
    threads = [pool["num_threads"] for pool in controller.info() if pool["user_api"] == "blas"]
    with controller.limit(limits=1, user_api="blas"):
        yield max(threads, default=1)


@contextmanager
def faiss_threads() -> Iterator[None]:
    """Give faiss the processors this process may use, and put its setting back afterwards."""
    import faiss

    before = faiss.omp_get_max_threads()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else before
    faiss.omp_set_num_threads(min(before, usable))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def in_threads(
    work: Callable[..., Result], items: Iterable[tuple[object, ...]], threads: int
) -> Iterator[Result]:
    """Do work on each item, a few ahead, and hand the results out in the order of the items.

    An error, or leaving off, waits for the work that has begun.
    """
    if threads <= 1:
        for item in items:
            yield work(*item)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, *item))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
