"""How long do near-duplicates take against imagededup's search by cosine?

    python benchmarks/imagededup_duplicates.py [--full]

Vectors of 262 dims like CLIP's, at a cosine of .97, all cores: from a dictionary of vectors to a
dictionary of duplicates by name on both sides. imagededup's CNN is made without its network, whose
weights would be downloaded and are not used. Says so and ends where imagededup is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import time
from typing import Any

import numpy as np
from harness import Record, clip_like, in_turns, ratio

DIM, SIMILARITY = 262, 0.97
Names = dict[str, list[str]]


def with_imagededup(vectors: dict[str, Any]) -> Names:
    """Ask imagededup."""
    from imagededup.methods import CNN

    search = CNN.__new__(CNN)
    search.logger, search.verbose = logging.getLogger("imagededup"), False
    found: Names = search.find_duplicates(
        encoding_map=vectors, min_similarity_threshold=SIMILARITY, num_sim_workers=0
    )
    return found


def with_isoclip(vectors: dict[str, Any]) -> Names:
    """Ask this package."""
    from fiftyone_isoclip.index import find_pairs

    names, rows = list(vectors), np.array(list(vectors.values()))
    found: Names = {name: [] for name in names}
    pairs = find_pairs(rows, SIMILARITY)
    for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
        found[names[left]].append(names[right])
        found[names[right]].append(names[left])
    return found


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the size and turns that are kept")
    asked = parser.parse_args()
    if importlib.util.find_spec("imagededup") is None:
        print("imagededup is not installed here, so nothing was measured.")
        sys.exit(0)
    n, turns = (20_000, 3) if asked.full else (5_000, 1)
    record = Record(
        "imagededup_duplicates",
        question="wall seconds from a dictionary of vectors to one of duplicates",
        packages=("imagededup", "scikit-learn", "numpy"),
    )
    record.setup(n=n, dim=DIM, similarity=SIMILARITY, turns=turns)
    vectors = {f"{row}.jpg": vector for row, vector in enumerate(clip_like(n, DIM))}
    theirs, ours = with_imagededup(vectors), with_isoclip(vectors)
    contenders = {
        "isoclip": lambda: with_isoclip(vectors),
        "imagededup": lambda: with_imagededup(vectors),
    }
    seconds = in_turns(contenders, turns, clock=time.perf_counter)
    times = ratio(seconds["imagededup"], seconds["isoclip"])
    differ = sum(set(theirs[name]) != set(ours[name]) for name in vectors)
    record.results["seconds"] = {name: np.round(each, 3).tolist() for name, each in seconds.items()}
    record.results["images_with_other_duplicates"] = differ
    record.row(
        f"near-duplicates of {n:,} vectors, all cores, from names to names",
        target="faster than imagededup's cosine search",
        measured=f"{times} x; other answers for {differ} images",
        note="it rounds cosines to float16" if differ else "",
        met=times > 1,
    )
    record.write(asked.full)


if __name__ == "__main__":
    main()
