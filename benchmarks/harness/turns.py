"""Contenders take turns, so that a busy moment of the machine hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any


def in_turns(
    contenders: Mapping[str, Callable[[], Any]],
    turns: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Run every contender once a turn -> its seconds, turn by turn.

    The default clock is that of the processor; give `time.perf_counter` where work goes on in
    other processes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, run in contenders.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def ratio(peer: Sequence[float], ours: Sequence[float]) -> float:
    """How many times faster ours is: the median of the ratios of single turns."""
    return round(median(p / o for p, o in zip(peer, ours, strict=True)), 2)
