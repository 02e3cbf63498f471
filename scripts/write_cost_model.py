"""Write the tables of docs/scale.md from what the benchmarks measured and a few stated assumptions.

    python scripts/write_cost_model.py

Every figure is measured, or worked out by the formula that stands beside it: what is shown is what
is computed, with the measured numbers in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- end of \2 -->\n)", re.DOTALL)

MILLION = 1_000_000
SIZES = (MILLION, 100 * MILLION, 1000 * MILLION)

# Every brace is a number that a benchmark measured or counted; see `measured`.
ONE_MACHINE = (
    ("embedding, ViT-B-32 in bf16, 640 x 480 JPEG", "", "{speed:g} images a second"),
    (
        "near-duplicates, every pair, 262 numbers",
        MILLION,
        "{exact:.0f} s, {exact_peak:.1f} GB of memory",
    ),
    (
        "near-duplicates, recall .99, 262 numbers",
        MILLION,
        "{probed:.0f} s, {probed_peak:.1f} GB of memory",
    ),
    ("an index made for searches", MILLION, "{build:.0f} s"),
    (
        "a search, k = 25, one thread, 272 numbers",
        MILLION,
        "{search:.1f} ms, recall@10 {search_recall}",
    ),
    ("clusters, Leiden", 100_000, "{leiden} s"),
    ("clusters, k-means into 500", MILLION, "{kmeans:.0f} s"),
    ("the panel in the App, an event", 100_000, "{panel:.2f} s"),
)

GPU = "121e12 * 0.3 / {%s:.3g}"
DECODED = "8 / {decode:g}"
ENDS = (
    ("embedding, ViT-B-32, {cores} cores", "a day", "{speed:g} * 24 * 3600"),
    ("embedding, ViT-B-32, one GPU", "a day", f"min({GPU % 'B32'}, {DECODED}) * 24 * 3600"),
    ("every pair, {cores} cores", "a day", "1e6 * (24 * 3600 / {exact:g}) ** (1 / 2)"),
    ("every pair, 262 numbers", "memory", "64e9 / {exact_slope}"),
    ("the list of images of one `isoclip embed`", "memory", "64e9 / {driver}"),
)

ASSUMED = (
    ("a GPU", "121e12 operations a second in bf16", "NVIDIA's data sheet of the L4, dense"),
    ("share of these that a tower reaches", "0.3", "assumed; nothing has run on a GPU"),
    ("cores beside a GPU", "8", "a g6.4xlarge has 16 hardware threads, counted as 8 cores"),
    ("a picture", "100e3 bytes, 640 x 480 pixels", "assumed; look at yours"),
    ("memory of a machine that holds vectors", "256e9 bytes", "assumed"),
    ("the one machine that ends", "64e9 bytes of memory; a day", "assumed"),
)

NOT_MEASURED: tuple[object, ...] = ("not measured so far",)


def as_number(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def as_bytes(value: float) -> str:
    """Three significant digits of bytes, by powers of a thousand."""
    unit, size = next(each for each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)) if value >= each[1])
    return f"{float(f'{value / size:.3g}'):g} {unit}"


EMBEDDING = (
    ("pictures to read", "images * 100e3", as_bytes),
    ("core-hours to decode", "images * {decode:g} / 3600", as_number),
    ("core-hours, ViT-B-32 without a GPU", "images / {speed:g} * {cores} / 3600", as_number),
    *(
        (
            f"GPU-hours, ViT-{name[0]}-{name[1:]}",
            f"images / min({GPU % name}, {DECODED}) / 3600",
            as_number,
        )
        for name in ("B32", "B16", "L14")
    ),
)
STORING = (
    ("store of 512 float32", "images * {store32}", as_bytes),
    ("store of 512 float16", "images * {store16}", as_bytes),
    ("hours to verify it", "images / {verified} / 3600", as_number),
    ("memory where `isoclip embed` is begun", "images * {driver}", as_bytes),
    ("hours to import, vectors in files", "images / {imported} / 3600", as_number),
    ("database, vectors in files", "images * {sample}", as_bytes),
)
SEARCHING = (
    ("vectors, 512 float32", "images * 512 * 4", as_bytes),
    ("vectors, 312 float32", "images * 312 * 4", as_bytes),
    ("vectors, 312 float16", "images * 312 * 2", as_bytes),
    ("vectors, PQ 78", "images * 78", as_bytes),
    ("machines that hold 312 float16", "ceil(images * 312 * 2 / 256e9)", as_number),
)
# Of these the first column was measured. Growth is the work's own and not what was fitted to fewer
# rows, where costs that do not grow weigh: pairs grow with the square, cells and codes with n.
GROWING = (
    ("ms a search, our index, 272 numbers", "{search:.3g} * images / 1e6", as_number),
    ("ms a search, every vector scored, 272 numbers", "{flat:.3g} * images / 1e6", as_number),
    (
        "hours for every pair, {cores} cores, 262 numbers",
        "{exact:.3g} / 3600 * (images / 1e6) ** 2",
        as_number,
    ),
    (
        "hours for pairs at recall .99, {cores} cores",
        "{probed:.3g} / 3600 * images / 1e6",
        as_number,
    ),
    ("memory for either", "images * {exact_slope}", as_bytes),
)


def measured(records: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that the tables are made of, by name: seconds, bytes, or as the table says."""
    found = {name: record.get("results", {}) for name, record in records.items()}
    scale, growth, clusters = found["scale"], found["growth"], found["clusters"]
    exact, probed = growth[str(MILLION)]["exact"], growth[str(MILLION)]["probed"]
    least = growth["50000"]["exact"]["peak_bytes"]
    index, operations = found["search"][f"{MILLION} vectors"], scale["operations_an_image"]
    embedding = found["embedding"]
    return {
        "cores": records["embedding"]["machine"]["cores"],
        "speed": embedding["images_per_second"]["auto"],
        "decode": embedding["file_to_pixels"]["640x480"]["milliseconds"]["exact"] / 1000,
        "B32": operations["ViT-B-32"],
        "B16": operations["ViT-B-16"],
        "L14": operations["ViT-L-14"],
        "exact": exact["wall_seconds"],
        "exact_peak": exact["peak_bytes"] / 1e9,
        "exact_slope": round((exact["peak_bytes"] - least) / (MILLION - 50_000)),
        "probed": probed["wall_seconds"],
        "probed_peak": probed["peak_bytes"] / 1e9,
        "build": index["build_seconds"],
        "search": index["ms_a_search"]["ours"],
        "search_recall": index["recall_at_10"],
        "flat": index["ms_a_search"]["faiss_flat"],
        "leiden": clusters["clip-like, 100,000, leiden"]["wall_seconds"],
        "kmeans": clusters["kmeans, clip-like, 1,000,000"]["ours_wall_seconds"],
        "panel": found["panel"]["duplicates, review"]["seconds"],
        "driver": scale["driver"]["bytes_an_image"],
        "store32": scale["store of float32"]["bytes_an_image"],
        "store16": scale["store of float16"]["bytes_an_image"],
        "verified": scale["store of float32"]["images_read_a_second"],
        "imported": scale["import, vectors in files"]["images_a_second"],
        "sample": scale["import, vectors in files"]["database_bytes_an_image"],
    }


def computed(formula: str, images: float = 0) -> float:
    """What a formula gives for so many images."""
    known = {"images": images, "min": min, "ceil": math.ceil}
    return float(eval(formula, {"__builtins__": {}}, known))  # noqa: S307 (written in this file)


def one_machine(records: Mapping[str, Any]) -> str:
    """What was measured on one machine."""
    known = measured(records)
    rows = [
        (what, images and f"{images:,}", told.format(**known)) for what, images, told in ONE_MACHINE
    ]
    return table(("what", "images", f"measured on {known['cores']} cores"), rows)


def ends(records: Mapping[str, Any]) -> str:
    """At how many images one machine ends, of memory or of patience."""
    known = measured(records)
    rows = []
    for what, by, template in ENDS:
        formula = template.format(**known)
        million = f"{as_number(computed(formula) / MILLION)} million"
        rows.append((what.format(**known), by, million, f"`{formula}`"))
    return table(("what", "ends after", "at so many images", "estimated by"), rows)


def cost_model(records: Mapping[str, Any]) -> str:
    """What a million, a hundred million and a billion images take."""
    known = measured(records)
    rows = []
    for what, template, show in (*EMBEDDING, *STORING, *SEARCHING, *GROWING):
        formula = template.format(**known)
        cells = [show(computed(formula, images)) for images in SIZES]
        if (what, template, show) in GROWING[:-1]:
            cells[0] += " (measured)"
        rows.append((what.format(**known), *cells, f"`{formula}`"))
    return table(("what", "1 million", "100 million", "1 billion", "estimated by"), rows)


def compression(records: Mapping[str, Any]) -> str:
    """What is kept of the ten nearest in fewer bytes."""
    rows = []
    for name, found in records["compression"]["results"].items():
        again = found.get("recall_at_10_scored_again", {})
        recalls = [found["recall_at_10"], again.get("100"), again.get("1000")]
        cells = ["" if recall is None else f"{recall:.4f}" for recall in recalls]
        rows.append((name, found["bytes"], *cells))
    scored = ("100 scored again", "1,000 scored again")
    return table(("kept of an image", "bytes", "recall@10", *scored), rows)


def backends(records: Mapping[str, Any]) -> str:
    """What a search costs in each database."""
    rows = []
    for name, found in records.get("backends", {"results": {}})["results"].items():
        n, _, backend = name.partition(" vectors, ")
        numbers = [found[key] for key in ("ms_a_search", "recall_at_10", "megabytes_on_disk")]
        rows.append((backend, f"{int(n):,}", *numbers, found["build_seconds"]))
    columns = ("in", "vectors", "ms a search, k = 10", "recall@10", "MB on disk", "built in s")
    return table(columns, rows or [NOT_MEASURED])


def cells(records: Mapping[str, Any]) -> str:
    """Which share of the duplicates of a store is found by comparing in some of its cells."""
    if "store_duplicates" not in records:
        return table(("cells compared in",), [NOT_MEASURED])
    found = records["store_duplicates"]["results"]
    rows: list[tuple[object, ...]] = [
        ("every pair, in memory, for comparison", 1.0, "", found["exact_in_memory_seconds"])
    ]
    chosen = [(f", chosen, {way}", found[f"{way}_chosen"]) for way in ("local", "ray")]
    for how, each in [*(("", one) for one in found["local_by_cells"]), *chosen]:
        low, _, high = each["told"]
        reported = f"{low:.3f} to {high:.3f}, by {each['known_pairs']} known pairs"
        visited = f"{each['cells_visited']} of {each['cells']:,}{how}"
        rows.append((visited, f"{each['recall']:.4f}", reported, each["seconds"]))
    return table(("cells compared in", "recall", "reported, 95 %", "seconds"), rows)


def assumptions(_: Mapping[str, Any]) -> str:
    """What was not measured here and enters a formula."""
    return table(("assumed", "value", "where from"), ASSUMED)


def table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(columns)}", *lines[1:]]) + "\n"


TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "one-machine": one_machine,
    "ends": ends,
    "assumptions": assumptions,
    "cost-model": cost_model,
    "compression": compression,
    "backends": backends,
    "cells": cells,
}


def with_tables(text: str, results: Path) -> str:
    """Put every table between its marks in a text."""
    records = {path.stem: json.loads(path.read_text("utf-8")) for path in results.glob("*.json")}
    if missing := TABLES.keys() - {name for _, name, _ in MARK.findall(text)}:
        raise SystemExit(f"docs/scale.md lacks the marks of {', '.join(sorted(missing))}")
    return MARK.sub(lambda mark: f"{mark[1]}{TABLES[mark[2]](records)}{mark[3]}", text)


def main() -> None:
    """Rewrite the page."""
    page = ROOT / "docs" / "scale.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(with_tables(text, ROOT / "benchmarks" / "results"), encoding="utf-8")


if __name__ == "__main__":
    main()
