"""Write the tables of docs/evidence.md from what benchmarks/evidence.py measured.

    python scripts/write_evidence.py

Each file benchmarks/results/evidence*.json gives one part, named by its checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- evidence -->\n", "<!-- end of evidence -->\n"


def parts(results: Path) -> str:
    """Make the Markdown of all files, checkpoint by checkpoint."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(results.glob("evidence*"))]
    return "\n".join(part(record) for record in records)


def part(record: dict[str, Any]) -> str:
    """One checkpoint: where it was measured, and question by question what came out."""
    machine, setup = record["machine"], record["setup"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"### {setup['checkpoint']} ({setup['weights']})",
        "",
        f"Measured on {machine['processor']}, {machine['cores']} cores, with {versions}.",
        "",
    ]
    for what, found in record["results"].items():
        lines += [f"**{what[0].upper()}{what[1:]}.** {found['verdict']}", ""]
        lines += methods(found["methods"]) if "methods" in found else held_out(found)
        lines += ["", f"`{found['command']}`", ""]
    return "\n".join(lines)


def methods(found: list[dict[str, Any]]) -> list[str]:
    """A table of methods, the best first by the metric that decides, which is the first."""
    metrics = list(found[0]["metrics"])
    timed = any(each["seconds_per_query"] is not None for each in found)
    columns = ["method", *metrics, *["a query"] * timed]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for each in sorted(found, key=lambda method: -method["metrics"][metrics[0]]["mean"]):
        numbers = [each["metrics"][metric] for metric in metrics]
        cells = [each["name"], spread(numbers[0])]
        cells += [f"{number['mean']:.3f}" for number in numbers[1:]]
        if timed:
            seconds = each["seconds_per_query"]
            cells.append("" if seconds is None else f"{1000 * seconds:,.1f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def held_out(found: dict[str, Any]) -> list[str]:
    """A table of what the tuner reports of the half that it did not choose on."""
    lines = ["| method, on the held-out half | mAP |", "|---|---|"]
    return lines + [f"| {name} | {spread(each)} |" for name, each in found["held_out"].items()]


def spread(number: dict[str, float]) -> str:
    """A mean with its interval."""
    return f"{number['mean']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def with_parts(text: str, results: Path) -> str:
    """Put the parts between their marks in a text."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"docs/evidence.md lacks the marks {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{parts(results)}{END}{after}"


def main() -> None:
    """Rewrite the page."""
    page = ROOT / "docs" / "evidence.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(with_parts(text, ROOT / "benchmarks" / "results"), encoding="utf-8")


if __name__ == "__main__":
    main()
