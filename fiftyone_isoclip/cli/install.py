"""`isoclip install`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import on_stderr, report, say

PluginsDir = Annotated[
    Path | None,
    typer.Option(
        "--plugins-dir",
        metavar="FOLDER",
        help="FiftyOne's plugins folder; by default the configured one.",
        show_default=False,
    ),
]


def run_install(plugins_dir: PluginsDir = None, json: JsonFile = None) -> None:
    """Make the operators and panels appear in the FiftyOne App; running it again is harmless."""
    from fiftyone_isoclip.install import install_plugin

    with on_stderr():
        folder = install_plugin(plugins_dir)
    report({"plugin": str(folder)}, json, lambda: say(f"the plugin is in {folder}"))
