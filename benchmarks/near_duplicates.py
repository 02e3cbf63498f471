"""How long does it take to find every near-duplicate pair, against tuned faiss and plain numpy?

    python benchmarks/near_duplicates.py

20,000 vectors of 256 dims with planted near-duplicates, at similarity .97, one thread. Once with a
common mean and a spectrum that decays as CLIP's does, once without structure. Each contender is a
process of its own (faiss's BLAS is chosen when it is loaded); they take turns, and the ratios are
medians over the turns. CPU seconds, so that a busy machine does not decide. faiss is measured as
installed and with the fastest of several settings. Writes benchmarks/results/near_duplicates.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

RESULTS = Path(__file__).parent / "results" / "near_duplicates.json"
N, DIM, PLANTED, SIMILARITY = 20_000, 256, 500, 0.97
CORE_TYPES = ("", "Haswell", "SkylakeX", "Zen")
QUERY_BLOCKS = (4096, 512)
ROUNDING = 1e-6

Table = npt.NDArray[np.float32]
Found = npt.NDArray[np.int64]


def made_vectors(kind: str, n: int = N) -> Table:
    """Draw vectors with near-duplicates: "clip-like" or "flat" -> (n, 256)."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, DIM))
    if kind == "clip-like":
        rows /= np.sqrt(np.arange(1, DIM + 1))
        # As long as the rest on average, which gives the mean cosine of .5 of CLIP's image cone.
        rows[:, 0] += np.sqrt((1 / np.arange(1, DIM + 1)).sum())
        rows = rows @ np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    noise = rng.normal(size=(PLANTED, DIM)) / np.sqrt(DIM)
    rows[-PLANTED:] = rows[:PLANTED] + rng.uniform(0, 0.3, size=(PLANTED, 1)) * noise
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rng.permutation(rows).astype(np.float32)


def with_isoclip(rows: Table, block: int) -> Found:
    """Search with this package, making the index included."""
    from fiftyone_isoclip.index import CosineIndex

    pairs = CosineIndex(rows).pairs_above(SIMILARITY)
    return np.column_stack([pairs.left, pairs.right])


def with_faiss(rows: Table, block: int) -> Found:
    """Search with IndexFlatIP.range_search, making the index included."""
    import faiss

    faiss.cvar.distance_compute_blas_query_bs = block
    index = faiss.IndexFlatIP(DIM)
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


def tuned_faiss(folder: Path) -> dict[str, Any]:
    """Find faiss's fastest setting on a quarter of the vectors."""
    path = folder / "tuning.npy"
    np.save(path, made_vectors("clip-like", N // 4))
    times = {}
    for core_type in CORE_TYPES:
        for block in QUERY_BLOCKS:
            worker = Worker("faiss", path, core_type, block)
            times[core_type, block] = min(worker.search()[0] for _ in range(2))
            worker.stop()
    core_type, block = min(times, key=times.__getitem__)
    return {"core_type": core_type, "block": block}


def compare(kind: str, folder: Path, tuned: dict[str, Any], turns: int) -> dict[str, Any]:
    """Let all contenders search one kind of vectors in turns."""
    rows = made_vectors(kind)
    path = folder / f"{kind}.npy"
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
    ours = seconds["isoclip"]
    return {
        "pairs": len(found["isoclip"]),
        "pairs_missed": missed(rows, found),
        "faiss_tuned_setting": workers["faiss_tuned"].setting,
        "cpu_seconds": {name: round(median(times), 3) for name, times in seconds.items()},
        "times_faster_than": {
            name: round(median(t / o for t, o in zip(times, ours, strict=True)), 2)
            for name, times in seconds.items()
            if name != "isoclip"
        },
    }


def missed(rows: Table, found: dict[str, set[tuple[int, int]]]) -> int:
    """Count pairs that anybody found, ours did not, and float64 puts above the similarity."""
    others = set().union(*found.values()) - found["isoclip"]
    cosines = (np.dot(*rows[list(pair)].astype(np.float64)) for pair in others)
    return sum(bool(cosine >= SIMILARITY + ROUNDING) for cosine in cosines)


def machine() -> dict[str, Any]:
    """Name the processor, what else it was doing, and the versions of what was measured."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    packages = ("faiss-cpu", "fiftyone-isoclip", "numpy")
    return {
        "processor": names[0].split(": ")[1] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        name, path, block = asked.work
        work(name, path, int(block))
        return
    with tempfile.TemporaryDirectory() as folder:
        tuned = tuned_faiss(Path(folder))
        results = {
            kind: compare(kind, Path(folder), tuned, asked.turns) for kind in ("clip-like", "flat")
        }
    record = {
        "question": "CPU seconds to find all pairs at or above a similarity, one thread",
        "setup": {"n": N, "dim": DIM, "similarity": SIMILARITY, "turns": asked.turns},
        "machine": machine(),
        "results": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
