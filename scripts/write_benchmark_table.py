"""Write the table of measurements in the README from what the benchmarks measured.

    python scripts/write_benchmark_table.py

Every row of every file in benchmarks/results stands in it, met or missed.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- measurements -->\n", "<!-- end of measurements -->\n"


def table(results: Path) -> str:
    """Make the Markdown table of all rows, file by file, with the machine they were measured on."""
    lines = ["| what | target | measured |", "|---|---|---|"]
    machines: dict[str, list[str]] = {}
    for path in sorted(results.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for row in record.get("rows", []):
            verdict = "" if row["met"] else " (**missed**)"
            note = f"; {row['note']}" if row["note"] else ""
            lines.append(f"| {row['what']} | {row['target']} | {row['measured']}{verdict}{note} |")
        if record.get("rows"):
            machine = record["machine"]
            device = record["setup"].get("device") or f"{machine['cores']} cores"
            machines.setdefault(f"{machine['processor']}, {device}", []).append(path.stem)
    told = "; ".join(f"{name} ({', '.join(stems)})" for name, stems in machines.items())
    return "\n".join([*lines, "", f"Measured on: {told}.", ""])


def with_table(text: str, results: Path) -> str:
    """Put the table between its marks in a text."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"the README lacks the marks {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main() -> None:
    """Rewrite the README."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results"
    readme.write_text(with_table(text, results), encoding="utf-8")


if __name__ == "__main__":
    main()
