"""How do time and memory grow with the number of vectors, and is a million done in two minutes?

    python benchmarks/growth.py [--full]

Near-duplicates at similarity .97 among vectors of 262 dims like CLIP's, on all cores: every pair,
and a recall of .99. Each search is a process of its own, which loads the vectors from a file, so
that its peak memory is that of one search. The exponents are fitted to wall seconds from 50,000 to
400,000 vectors (a smaller range in the quick version).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Record, clip_like

DIM, SIMILARITY, RECALL = 262, 0.97, 0.99
FITTED_TO, MILLION = 400_000, 1_000_000
FULL_SIZES = (50_000, 100_000, 200_000, FITTED_TO, MILLION)
QUICK_SIZES = (25_000, 50_000, 100_000)
GIGABYTE = 2**30


def work(path: str, recall: float | None) -> None:
    """Search the vectors in a file once, and say what it took."""
    from fiftyone_isoclip.index import find_pairs
    from fiftyone_isoclip.index.bounds import choose_device

    choose_device(MILLION)  # imports torch, which is there already when images were embedded
    rows = np.load(path)
    find_pairs(rows[:25_000], SIMILARITY, recall=recall)
    wall, cpu = time.perf_counter(), time.process_time()
    pairs = find_pairs(rows, SIMILARITY, recall=recall)
    took = {
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "pairs": len(pairs),
        "recall_measured": pairs.recall,
        # Linux counts in kilobytes, macOS in bytes.
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
    }
    print(json.dumps(took))


def search(path: Path, recall: float | None) -> dict[str, Any]:
    """Search in a process of its own."""
    command = [sys.executable, __file__, "--work", str(path), str(recall or "")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def exponent(results: dict[str, dict[str, Any]], kind: str) -> float:
    """Fit wall seconds to a power of n."""
    sizes = [int(n) for n in results if int(n) <= FITTED_TO]
    seconds = [results[str(n)][kind]["wall_seconds"] for n in sizes]
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the sizes that are kept")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work[0], float(asked.work[1]) if asked.work[1] else None)
        return
    sizes = (
        (50_000, 100_000, 200_000, 400_000, MILLION) if asked.full else (25_000, 50_000, 100_000)
    )
    record = Record(
        "growth",
        question="wall seconds to find near-duplicate pairs, and peak memory, on all cores",
        packages=("faiss-cpu", "numpy"),
    )
    record.setup(sizes=sizes, dim=DIM, similarity=SIMILARITY, recall=RECALL)
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            path = Path(folder) / "vectors.npy"
            np.save(path, clip_like(n, DIM))
            exact, most = search(path, None), search(path, RECALL)
            found = round(most["pairs"] / exact["pairs"], 4)
            record.results[str(n)] = {"exact": exact, "probed": most | {"recall_reached": found}}
    note(record)
    record.write(asked.full)


def note(record: Record) -> None:
    """Hold the results against their targets."""
    results = dict(record.results)
    top = min(FITTED_TO, max(map(int, results)))
    for kind, target in (("exact", 2.0), ("probed", 1.3)):
        power = exponent(results, kind)
        record.results[f"exponent_{kind}"] = power
        record.row(
            f"growth of near-duplicate search, {kind}, to {top:,}",
            target=f"exponent <= {target}",
            measured=f"{power}",
            met=power <= target,
        )
    largest = max(map(int, results))
    exact, raw = results[str(largest)]["exact"], largest * DIM * 4
    what = f"exact near-duplicates, {largest:,} x {DIM}, {record.machine['cores']} cores"
    if largest == MILLION:
        seconds = exact["wall_seconds"]
        record.row(what, target="< 120 s wall", measured=f"{seconds:.0f} s", met=seconds < 120)
    allowed = 1.5 * raw + GIGABYTE
    record.row(
        f"{what}: peak memory",
        target="<= 1.5 x raw + 1 GB",
        measured=f"{exact['peak_bytes'] / GIGABYTE:.2f} GB, raw {raw / GIGABYTE:.2f} GB",
        met=exact["peak_bytes"] <= allowed,
    )


if __name__ == "__main__":
    main()
