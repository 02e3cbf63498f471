"""Draw how searches grow with the number of vectors, from what the benchmarks measured.

    python scripts/plot_growth.py

Writes docs/images/growth.svg from growth.json and search.json in benchmarks/results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "images" / "growth.svg"


def main() -> None:
    """Draw both panels."""
    mpl.rcParams["svg.hashsalt"] = "fiftyone-isoclip"  # the same numbers give the same file
    figure, (pairs, search) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    growth = _results("growth")
    sizes = sorted(int(key) for key in growth if key.isdigit())
    for kind, label in (("exact", "every pair"), ("probed", "a recall of .99")):
        seconds = [growth[str(n)][kind]["wall_seconds"] for n in sizes]
        power = growth[f"exponent_{kind}"]
        pairs.plot(sizes, seconds, marker="o", label=f"{label}, exponent {power}")
    pairs.set(title="Near-duplicates", xlabel="vectors of 262 dims", ylabel="wall seconds")
    found = _results("search")["growth"]
    spent = {int(n): ms for n, ms in found["ms_a_search"].items()}
    search.plot(*zip(*sorted(spent.items()), strict=True), marker="o")
    search.set(
        title=f"One search for 25 neighbours, exponent {found['exponent']}",
        xlabel="vectors of 272 dims",
        ylabel="milliseconds, median",
        ylim=(0, None),
    )
    pairs.set(xscale="log", yscale="log")
    search.set(xscale="log")
    pairs.legend(frameon=False)
    for axes in (pairs, search):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, metadata={"Date": None})
    print(f"wrote {PICTURE.relative_to(ROOT)}")


def _results(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return dict(record["results"])


if __name__ == "__main__":
    main()
