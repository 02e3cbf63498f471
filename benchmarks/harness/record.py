"""One benchmark's answer: what was asked, on which machine, what came out, against which target."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


class Record:
    """Collects what a benchmark measured, and writes it as JSON for people and for the README."""

    def __init__(self, name: str, *, question: str, packages: tuple[str, ...] = ()) -> None:
        """Name the file, the question, and the packages whose versions matter beside ours."""
        self.name = name
        self.question = question
        self.machine = describe_machine(("fiftyone-isoclip", *packages))
        self.facts: dict[str, Any] = {}
        self.results: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def setup(self, **facts: Any) -> None:
        """Note sizes, thresholds and settings."""
        self.facts |= facts

    def row(self, what: str, *, target: str, measured: str, met: bool, note: str = "") -> None:
        """Add a line to the table of targets; a missed one says in its note what was tried."""
        self.rows.append(
            {"what": what, "target": target, "measured": measured, "met": bool(met), "note": note}
        )

    def write(self, full: bool) -> Path:
        """Print and write the record; only a full measurement goes where results are kept."""
        folder = RESULTS if full else RESULTS / "quick"
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "question": self.question,
            "setup": self.facts,
            "machine": self.machine,
            "rows": self.rows,
            "results": self.results,
        }
        text = json.dumps(content, indent=2) + "\n"
        print(text, end="", flush=True)
        path = folder / f"{self.name}.json"
        path.write_text(text, encoding="utf-8")
        return path


def describe_machine(packages: tuple[str, ...]) -> dict[str, Any]:
    """Name the processor, what else it was doing, and the versions of what is measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
