"""How long do near-duplicates take on a GPU, among one and ten million vectors?

    python benchmarks/gpu_near_duplicates.py [--full]

Vectors of 262 dims like CLIP's, at similarity .97; the pairs of the first 100,000 are compared with
those found without the GPU. Says so and ends where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from harness import Record, clip_like

from fiftyone_isoclip.index.pair_search import search_pairs
from fiftyone_isoclip.index.screens import plan_screen

DIM, SIMILARITY, CHECKED = 262, 0.97, 100_000


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="ten million vectors, too")
    parser.add_argument("--device", default="cuda", help="a torch device; cpu tries the script out")
    parser.add_argument("--sizes", type=int, nargs="+")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured.")
        sys.exit(0)
    sizes = asked.sizes or ((1_000_000, 10_000_000) if asked.full else (1_000_000,))
    record = Record(
        "gpu_near_duplicates",
        question="wall seconds to find all near-duplicate pairs on a GPU",
        packages=("numpy", "torch"),
    )
    name = torch.cuda.get_device_name() if asked.device == "cuda" else asked.device
    record.setup(device=name, dim=DIM, similarity=SIMILARITY)
    for n in sizes:
        rows = clip_like(n, DIM)
        start = time.perf_counter()
        screen = plan_screen(rows, SIMILARITY, on_gpu=True).make(rows)
        prepared = time.perf_counter() - start
        pairs = search_pairs(rows, SIMILARITY, screen, device=asked.device, pivots=1)
        seconds = time.perf_counter() - start
        few = rows[:CHECKED]
        alone = search_pairs(few, SIMILARITY, plan_screen(few, SIMILARITY).make(few))
        inside = pairs.right < len(few)
        same = np.array_equal(pairs.left[inside], alone.left)
        same &= np.array_equal(pairs.right[inside], alone.right)
        record.results[f"{n:,}"] = {
            "wall_seconds": round(seconds, 2),
            "of_these_on_the_screen": round(prepared, 2),
            "coordinates": screen.coordinates.shape[1],
            "pairs": len(pairs),
            "same_as_without_gpu": bool(same),
        }
        record.row(
            f"exact near-duplicates, {n:,} x {DIM}, {name}",
            target="< 120 s",
            measured=f"{seconds:.1f} s",
            met=seconds < 120 and same,
        )
    record.write(asked.full)


if __name__ == "__main__":
    main()
