"""How long does it take to find every near-duplicate pair, against tuned faiss and plain numpy?

    python benchmarks/near_duplicates.py [--full] [--photographs FOLDER]

Vectors of 262 dims with planted near-copies, at similarity .97, one thread: 20,000 and 50,000 like
CLIP's, and without structure (20,000 alone in the quick version). Each contender is a process of
its own, for faiss's BLAS is chosen when it is loaded; they take turns, and the ratios are medians
over the turns. CPU seconds, so that a busy machine does not decide. faiss is measured as installed
and with the fastest of several settings. With photographs, also real vectors: what the demo weights
make of crops of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import Record, clip_like, flat, ratio

DIM, SIMILARITY = 262, 0.97
MADE = {"clip-like": clip_like, "full rank": flat}
REAL, REAL_COUNT = "the demo weights' of crops of photographs", 20_000
CORE_TYPES = ("", "Haswell", "SkylakeX", "Zen")
QUERY_BLOCKS = (4096, 512)
ROUNDING = 1e-6
ALIKE = "the BLAS that faiss brings chose its fastest setting here by itself"

Table = npt.NDArray[np.float32]
Found = npt.NDArray[np.int64]


def with_isoclip(rows: Table, block: int) -> Found:
    """Search with this package, making the index included."""
    from fiftyone_isoclip.index import CosineIndex

    pairs = CosineIndex(rows).pairs_above(SIMILARITY)
    return np.column_stack([pairs.left, pairs.right])


def with_faiss(rows: Table, block: int) -> Found:
    """Search with IndexFlatIP.range_search, making the index included."""
    import faiss

    faiss.cvar.distance_compute_blas_query_bs = block
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    limits, _, right = index.range_search(rows, SIMILARITY)
    left = np.repeat(np.arange(len(rows)), (limits[1:] - limits[:-1]).astype(np.int64))
    return np.column_stack([left, right])[left < right]


def with_numpy(rows: Table, block: int) -> Found:
    """Search the upper triangle with one product a block of rows."""
    parts = []
    for start in range(0, len(rows), 1024):
        left, right = np.nonzero(rows[start : start + 1024] @ rows[start:].T >= SIMILARITY)
        parts.append(np.column_stack([left, right])[left < right] + start)
    return np.concatenate(parts)


CONTENDERS = {"isoclip": with_isoclip, "faiss": with_faiss, "numpy": with_numpy}


def work(name: str, path: str, block: int) -> None:
    """Answer each line on stdin with one timed search of the vectors in a file."""
    rows = np.load(path)
    CONTENDERS[name](rows[:2000], block)
    for _ in sys.stdin:
        cpu = time.process_time()
        found = CONTENDERS[name](rows, block)
        cpu = time.process_time() - cpu
        print(json.dumps({"cpu": cpu, "pairs": found.tolist()}), flush=True)


class Worker:
    """A process that searches one table in one way, again and again."""

    def __init__(self, name: str, path: Path, core_type: str = "", block: int = 4096) -> None:
        """Start the process; an empty core type leaves the choice to the BLAS."""
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        env = {**os.environ, **one, "PYTHONPATH": str(Path(__file__).parents[1])}
        if core_type:
            env["OPENBLAS_CORETYPE"] = core_type
        command = [sys.executable, __file__, "--work", name, str(path), str(block)]
        self.setting = {"core_type": core_type or "as installed", "query_block": block}
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def search(self) -> tuple[float, set[tuple[int, int]]]:
        """Search once: CPU seconds, and the pairs found."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["cpu"], {(left, right) for left, right in answer["pairs"]}

    def stop(self) -> None:
        """End the process."""
        self.process.communicate()


def tuned_faiss(folder: Path, n: int) -> dict[str, Any]:
    """Find faiss's fastest setting on a few vectors."""
    path = folder / "tuning.npy"
    np.save(path, clip_like(n, DIM))
    times = {}
    for core_type in CORE_TYPES:
        for block in QUERY_BLOCKS:
            worker = Worker("faiss", path, core_type, block)
            times[core_type, block] = min(worker.search()[0] for _ in range(2))
            worker.stop()
    core_type, block = min(times, key=times.__getitem__)
    return {"core_type": core_type, "block": block}


def compare(rows: Table, folder: Path, tuned: dict[str, Any], turns: int) -> dict[str, Any]:
    """Let all contenders search the same vectors in turns."""
    path = folder / "vectors.npy"
    np.save(path, rows)
    workers = {
        "isoclip": Worker("isoclip", path),
        "faiss_tuned": Worker("faiss", path, **tuned),
        "faiss_as_installed": Worker("faiss", path),
        "numpy": Worker("numpy", path),
    }
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    found: dict[str, set[tuple[int, int]]] = {}
    for _ in range(turns):
        for name, worker in workers.items():
            cpu, found[name] = worker.search()
            seconds[name].append(cpu)
    for worker in workers.values():
        worker.stop()
    return {
        "pairs": len(found["isoclip"]),
        "pairs_missed": missed(rows, found),
        "faiss_tuned_setting": workers["faiss_tuned"].setting,
        "cpu_seconds": {name: round(median(times), 3) for name, times in seconds.items()},
        "times_faster_than": {
            name: ratio(times, seconds["isoclip"])
            for name, times in seconds.items()
            if name != "isoclip"
        },
    }


def missed(rows: Table, found: dict[str, set[tuple[int, int]]]) -> int:
    """Count pairs that anybody found, ours did not, and float64 puts above the similarity."""
    others = set().union(*found.values()) - found["isoclip"]
    cosines = (np.dot(*rows[list(pair)].astype(np.float64)) for pair in others)
    return sum(bool(cosine >= SIMILARITY + ROUNDING) for cosine in cosines)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the sizes and turns that are kept")
    parser.add_argument("--photographs", type=Path, help="a folder: measure real vectors too")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        name, path, block = asked.work
        work(name, path, int(block))
        return
    sizes, turns = ((20_000, 50_000), 5) if asked.full else ((20_000,), 3)
    record = Record(
        "near_duplicates",
        question="CPU seconds to find all pairs at or above a similarity, one thread",
        packages=("faiss-cpu", "numpy"),
    )
    record.setup(sizes=sizes, dim=DIM, similarity=SIMILARITY, turns=turns)
    with tempfile.TemporaryDirectory() as folder:
        tuned = tuned_faiss(Path(folder), 5_000)
        for kind in MADE:
            for n in sizes:
                got = compare(MADE[kind](n, DIM), Path(folder), tuned, turns)
                record.results[f"{kind}, {n:,}"] = got
                note(record, kind, n, got)
        if asked.photographs:
            from harness.photographs import embed_crops  # torch stays out of the other processes

            rows = embed_crops(asked.photographs, REAL_COUNT)
            got = compare(rows, Path(folder), tuned, turns)
            record.results[f"{REAL}, {REAL_COUNT:,}"] = got
            faster = got["times_faster_than"]["faiss_tuned"]
            record.row(
                f"exact near-duplicates, {len(rows):,} x {rows.shape[1]}, {REAL}, one thread",
                target="no pair missed; beside faiss, tuned",
                measured=f"{got['pairs_missed']} of {got['pairs']:,} missed; {faster:.1f} x",
                met=got["pairs_missed"] == 0,
            )
    record.write(asked.full)


def note(record: Record, kind: str, n: int, got: dict[str, Any]) -> None:
    """Hold a result against its targets."""
    faster, exact = got["times_faster_than"], got["pairs_missed"] == 0
    what = f"exact near-duplicates, {n:,} x {DIM}, {kind}, one thread"
    least = {"clip-like": (8.0, 15.0), "full rank": (3.5, None)}[kind]
    for peer, target in zip(("faiss_tuned", "faiss_as_installed"), least, strict=True):
        if target is not None:
            name = f"faiss range_search, {peer.removeprefix('faiss_').replace('_', ' ')}"
            alike = abs(1 - faster["faiss_as_installed"] / faster["faiss_tuned"]) < 0.1
            missed_target = faster[peer] < target
            record.row(
                what,
                target=f">= {target:g} x {name}",
                measured=f"{faster[peer]:.1f} x, {got['pairs_missed']} pairs missed",
                met=not missed_target and exact,
                note=ALIKE if missed_target and alike else "",
            )


if __name__ == "__main__":
    main()
