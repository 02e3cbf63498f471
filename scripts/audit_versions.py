"""Ask whether a version that the tests run with is vulnerable; tell where nobody can be asked.

pip-audit runs in an environment of its own and reads constraints.txt. It asks the open database of
vulnerabilities (OSV), since a mirror of packages answers for every package that nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

AUDIT = "pip-audit>=2.10,<3"
PATIENCE = 300
"""Seconds for all versions together."""

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it; ``known`` are the vulnerable versions, in words."""

    asked: bool
    known: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def audit(constraints: Path) -> Verdict:
    """Ask about every version in a file of constraints; nothing is installed or changed."""
    uv = Path(sys.executable).with_name("uv")
    where = ["-r", str(constraints), "--no-deps", "--disable-pip"]
    how = ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off"]
    command = [str(uv), "tool", "run", "--quiet", "--from", AUDIT, "pip-audit", *where, *how]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return Verdict(False)
    return judge(ended.stdout)


def judge(report: str) -> Verdict:
    """What pip-audit's JSON says; anything else means that it got no answer."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict(False)
    known = [
        f"{package['name']} {package['version']}: {each['id']}, mended in "
        f"{', '.join(each['fix_versions']) or 'no version yet'}"
        for package in packages
        for each in package.get("vulns", ())
    ]
    left_out = [f"{p['name']}: {p['skip_reason']}" for p in packages if "skip_reason" in p]
    return Verdict(True, tuple(known), tuple(left_out))


def main() -> int:
    """Tell the verdict; -> 1 only if a version is known to be vulnerable."""
    verdict = audit(_ROOT / "constraints.txt")
    if not verdict.asked:
        print("audit: left out, for the database of vulnerabilities cannot be reached from here")
        return 0
    for line in verdict.left_out:
        print(f"audit: nobody knows of {line}")
    for line in verdict.known:
        print(f"audit: {line}", file=sys.stderr)
    if not verdict.known:
        print("audit: no version in constraints.txt is known to be vulnerable")
    return 1 if verdict.known else 0


if __name__ == "__main__":
    raise SystemExit(main())
