"""`isoclip doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import on_stderr, report, show_table


def run_doctor(json: JsonFile = None) -> None:
    """Look at everything this package needs here, and say what to do where something is amiss.

    The exit code is 1 if something fails; a warning is no failure.
    """
    from fiftyone_isoclip.doctor import diagnose

    with on_stderr():
        findings = diagnose()

    def show() -> None:
        columns = ("", "looked at", "found", "advice")
        show_table(columns, ((f.state, f.name, f.found, f.advice) for f in findings))

    report([asdict(finding) for finding in findings], json, show)
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)
