"""How long does the App's panel take to draw, and how much travels, in a large dataset?

    python benchmarks/panel.py [--full]

Every tab is drawn on a dataset with embeddings, duplicates, leaks and clusters, in a MongoDB of
this benchmark's own: 20,000 samples, with --full 100,000. Seconds on the clock and bytes for one
event, the first after the run was made and the median of the next. The image files do not exist.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import Any

from harness import Record
from harness.database import own_database
from stored_vectors import filled_dataset, write_checkpoint

QUICK, FULL, EVENTS = 20_000, 100_000, 5
SIMILARITY, LEAST, CLUSTERS = 0.97, 0.95, 200
MOST_SECONDS, MOST_STATE = 1.0, 4_000
PARTS = {
    "duplicates, review": {"tab": "duplicates"},
    "duplicates, similarity": {"tab": "duplicates", "duplicates_part": "threshold"},
    "leaks": {"tab": "leaks"},
    "clusters": {"tab": "clusters"},
    "space, before it is loaded": {"tab": "space"},
    "runs": {"tab": "runs"},
}


def prepare(dataset: Any) -> None:
    """Find everything that the tabs show."""
    from fiftyone_isoclip import find_clusters, find_duplicates, find_leaks

    ids = dataset.values("id")
    dataset.select(ids[::3]).tag_samples("test")
    dataset.match_tags("test", bool=False).tag_samples("train")
    find_duplicates(dataset, similarity=SIMILARITY, least=LEAST)
    find_leaks(dataset, similarity=SIMILARITY)
    find_clusters(dataset, count=CLUSTERS)


def draw(dataset: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Send one event; -> its seconds, and the bytes of the state and of the answer."""
    from tests.panels import Panel

    panel = Panel(dataset, state["tab"])
    panel.state |= state
    started = time.perf_counter()
    parts = panel.send("act")
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "state_bytes": len(json.dumps(panel.state)),
        "answer_bytes": len(json.dumps(parts[0])),
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the size that is kept")
    asked = parser.parse_args()
    n = FULL if asked.full else QUICK
    record = Record("panel", question="seconds and bytes to draw a tab", packages=("fiftyone",))
    record.setup(samples=n, events=EVENTS, similarity=SIMILARITY, least=LEAST)
    with own_database() as folder:
        dataset = filled_dataset(write_checkpoint(folder), n)
        prepare(dataset)
        for name, state in PARTS.items():
            first, *others = [draw(dataset, state) for _ in range(1 + EVENTS)]
            usual = median(each["seconds"] for each in others)
            record.results[name] = {
                "first_seconds": round(first["seconds"], 3),
                "seconds": round(usual, 3),
                "state_bytes": first["state_bytes"],
                "answer_bytes": first["answer_bytes"],
            }
            record.row(
                f"panel, {n:,} samples: {name}",
                target=f"an event in < {MOST_SECONDS:g} s, a state of < {MOST_STATE // 1000} kB",
                measured=f"{usual:.2f} s, {first['state_bytes']} bytes",
                met=usual < MOST_SECONDS and first["state_bytes"] < MOST_STATE,
            )
    record.write(asked.full)


if __name__ == "__main__":
    main()
