"""Write the tables of docs/scale.md from what the benchmarks measured and a few stated assumptions.

    python scripts/write_cost_model.py

Every figure is measured, or worked out by the formula that stands beside it: the formulas are
Python, and the text that is shown is the text that is computed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- end of \2 -->\n)", re.DOTALL)

MILLION = 1_000_000
SIZES = (MILLION, 100 * MILLION, 1000 * MILLION)

GPU, SHARE, CORES = "121e12", "0.3", "8"
PICTURE, MACHINE, OWN = "100e3", "256e9", "64e9"
ASSUMED = (
    ("a GPU", f"{GPU} operations a second in bf16", "NVIDIA's data sheet of the L4, dense"),
    ("share of these that a tower reaches", SHARE, "assumed; nothing has run on a GPU"),
    ("cores beside a GPU", CORES, "a g6.4xlarge has 16 hardware threads, counted as 8 cores"),
    ("a picture", f"{PICTURE} bytes, 640 x 480 pixels", "assumed; look at yours"),
    ("memory of a machine that holds vectors", f"{MACHINE} bytes", "assumed"),
    ("the one machine that ends", f"{OWN} bytes of memory; a day", "assumed"),
)

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Quantity:
    """Something at each size: worked out by a formula of `images`, or measured at some sizes."""

    what: str
    formula: str
    show: Callable[[float], str]
    measured: Mapping[int, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return table_row(self.what, *map(self._cell, SIZES), f"`{self.formula}`")

    def _cell(self, images: int) -> str:
        if images in self.measured:
            return f"{self.show(self.measured[images])} (measured)"
        return self.show(computed(self.formula, images))


def computed(formula: str, images: float = 0) -> float:
    """What a formula gives for so many images."""
    known = {"images": images, "min": min, "ceil": math.ceil}
    return float(eval(formula, {"__builtins__": {}}, known))  # noqa: S307 (written in this file)


def one_machine(results: Results) -> str:
    """What was measured on one machine, and where it ends."""
    growth, search = results["growth"]["results"], results["search"]["results"]
    found, panel = growth[str(MILLION)], results["panel"]["results"]
    index = search["1000000 vectors"]
    clusters = results["clusters"]["results"]
    speed = results["embedding"]["results"]["images_per_second"]["auto"]
    lines = [
        ("embedding, ViT-B-32 in bf16, 640 x 480 JPEG", "", f"{speed:g} images a second"),
        ("near-duplicates, every pair", "1,000,000", _took(found["exact"])),
        ("near-duplicates, recall .99", "1,000,000", _took(found["probed"])),
        (
            "a search for 25, one thread",
            "1,000,000",
            f"{index['ms_a_search']['ours']} ms at a recall@10 of {index['recall_at_10']}; "
            f"built in {index['build_seconds']:g} s",
        ),
        (
            "clusters, Leiden",
            "100,000",
            f"{clusters['clip-like, 100,000, leiden']['wall_seconds']} s",
        ),
        (
            "clusters, k-means into 500",
            "1,000,000",
            f"{clusters['kmeans, clip-like, 1,000,000']['ours_wall_seconds']} s",
        ),
        (
            "the panel in the App, an event",
            "100,000",
            f"{panel['duplicates, review']['seconds']:.2f} s",
        ),
    ]
    return table(("measured", "images", "on 2 cores"), [table_row(*line) for line in lines])


def _took(found: Mapping[str, float]) -> str:
    return f"{found['wall_seconds']:.0f} s, {found['peak_bytes'] / 1e9:.1f} GB of memory"


def ends(results: Results) -> str:
    """At how many images one machine ends, of memory or of patience."""
    growth = results["growth"]["results"]
    cores = results["embedding"]["machine"]["cores"]
    peak = {n: growth[str(n)]["exact"]["peak_bytes"] for n in (50_000, MILLION)}
    slope = round((peak[MILLION] - peak[50_000]) / (MILLION - 50_000))
    once, power = growth[str(MILLION)]["exact"]["wall_seconds"], growth["exponent_exact"]
    images = results["scale"]["results"]["driver"]["bytes_an_image"]
    speed = results["embedding"]["results"]["images_per_second"]["auto"]
    day = f"(24 * 3600 / {once:g})"
    found = [
        (f"embedding, ViT-B-32, {cores} cores", "a day", f"{speed:g} * 24 * 3600"),
        ("embedding, ViT-B-32, one GPU", "a day", f"{gpu_speed(results)} * 24 * 3600"),
        (f"every pair, {cores} cores", "a day", f"1e6 * {day} ** (1 / {power:g})"),
        ("every pair, 262 numbers", "memory", f"{OWN} / {slope}"),
        ("the list of images of one `isoclip embed`", "memory", f"{OWN} / {images}"),
    ]
    rows = [
        table_row(what, by, f"{as_number(computed(how) / MILLION)} million", f"`{how}`")
        for what, by, how in found
    ]
    return table(("what", "ends after", "at so many images", "estimated by"), rows)


def cost_model(results: Results) -> str:
    """What a million, a hundred million and a billion images take."""
    rows = [*embedding(results), *storing(results), *searching(results), *comparing(results)]
    columns = ("what", "1 million", "100 million", "1 billion", "estimated by")
    return table(columns, list(map(str, rows)))


def embedding(results: Results) -> list[Quantity]:
    """From pictures to vectors."""
    speed = results["embedding"]["results"]["images_per_second"]["auto"]
    cores = results["embedding"]["machine"]["cores"]
    on_cores = f"images / {speed:g} * {cores} / 3600"
    return [
        Quantity("pictures to read", f"images * {PICTURE}", as_bytes),
        Quantity("core-hours to decode", f"images * {decoding(results)} / 3600", as_number),
        Quantity("core-hours, ViT-B-32 without a GPU", on_cores, as_number),
        *(
            Quantity(f"GPU-hours, {name}", f"images / {gpu_speed(results, name)} / 3600", as_number)
            for name in results["scale"]["results"]["operations_an_image"]
        ),
    ]


def gpu_speed(results: Results, name: str = "ViT-B-32") -> str:
    """Images a second: what the tower allows, or the cores that decode beside it."""
    operations = results["scale"]["results"]["operations_an_image"][name]
    tower = f"{GPU} * {SHARE} / {operations / 1e9:.1f}e9"
    return f"min({tower}, {CORES} / {decoding(results)})"


def decoding(results: Results) -> str:
    """Seconds that a core needs for a picture."""
    pixels = results["embedding"]["results"]["file_to_pixels"]["640x480"]
    return f"{pixels['milliseconds']['exact'] / 1000:.3g}"


def storing(results: Results) -> list[Quantity]:
    """The store of shards, and what reads and fills it."""
    found = results["scale"]["results"]
    stores = {dtype: found[f"store of {dtype}"] for dtype in ("float32", "float16")}
    speed = stores["float32"]["images_read_a_second"]
    driver = found["driver"]["bytes_an_image"]
    return [
        *(
            Quantity(f"store of 512 {dtype}", f"images * {store['bytes_an_image']}", as_bytes)
            for dtype, store in stores.items()
        ),
        Quantity("hours to verify it", f"images / {speed} / 3600", as_number),
        Quantity("memory where `isoclip embed` is begun", f"images * {driver}", as_bytes),
    ]


def searching(results: Results) -> list[Quantity]:
    """Vectors ready to be searched, and one search."""
    kept = {name: each["bytes"] for name, each in results["compression"]["results"].items()}
    half = f"images * {kept['312 float16']}"
    found = results["search"]["results"]
    once, power = found["1000000 vectors"]["ms_a_search"], found["growth"]["exponent"]
    names = ("512 float32", "312 float32", "312 float16", "PQ 78")
    return [
        *(Quantity(f"vectors, {name}", f"images * {kept[name]}", as_bytes) for name in names),
        Quantity("machines that hold 312 float16", f"ceil({half} / {MACHINE})", as_number),
        _grown("ms a search, this package's index, one thread", once["ours"], power),
        _grown("ms a search, every vector scored, one thread", once["faiss_flat"], 1),
    ]


def comparing(results: Results) -> list[Quantity]:
    """Near-duplicates on one machine."""
    found = results["growth"]["results"]
    return [
        _grown(
            f"hours for duplicates, {way}, one machine of 2 cores",
            found[str(MILLION)][kind]["wall_seconds"] / 3600,
            found[f"exponent_{kind}"],
        )
        for kind, way in (("exact", "every pair"), ("probed", "recall .99"))
    ]


def _grown(what: str, of_a_million: float, power: float) -> Quantity:
    formula = f"{of_a_million:.3g} * (images / 1e6) ** {power:g}"
    return Quantity(what, formula, as_number, {MILLION: of_a_million})


def compression(results: Results) -> str:
    """What is kept of the ten nearest in fewer bytes."""
    rows = []
    for name, found in results["compression"]["results"].items():
        again = found.get("recall_at_10_scored_again", {})
        recalls = [found["recall_at_10"], again.get("100"), again.get("1000")]
        cells = ["" if recall is None else f"{recall:.4f}" for recall in recalls]
        rows.append(table_row(name, str(found["bytes"]), *cells))
    columns = ("kept of an image", "bytes", "recall@10", "100 scored again", "1,000 scored again")
    return table(columns, rows)


def assumptions(results: Results) -> str:
    """What was not measured here and enters a formula."""
    return table(("assumed", "value", "where from"), [table_row(*each) for each in ASSUMED])


def table(columns: tuple[str, ...], rows: list[str]) -> str:
    """A table in Markdown."""
    return "\n".join([table_row(*columns), f"|{'---|' * len(columns)}", *rows]) + "\n"


def table_row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def as_number(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def as_bytes(value: float) -> str:
    """Bytes by powers of a thousand."""
    unit, size = next(each for each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)) if value >= each[1])
    return f"{float(f'{value / size:.3g}'):g} {unit}"


TABLES: Mapping[str, Callable[[Results], str]] = {
    "one-machine": one_machine,
    "ends": ends,
    "assumptions": assumptions,
    "cost-model": cost_model,
    "compression": compression,
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
