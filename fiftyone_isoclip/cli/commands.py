"""The sub-commands of `isoclip`, one module for each."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from fiftyone_isoclip import __version__
from fiftyone_isoclip.cli.shell import Shell

COMMANDS = (
    "demo",
    "duplicates",
    "search",
    "clusters",
    "compare",
    "thresholds",
    "apply",
    "undo",
    "purge",
    "embed",
    "evaluate",
    "verify",
    "import",
    "models",
    "spectrum",
    "tune",
    "reproduce",
    "install",
    "doctor",
)

app = typer.Typer(
    cls=Shell,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name in COMMANDS:
    _module = {"import": "import_store"}.get(_name, _name)  # no module can have that name
    app.command(_name)(getattr(import_module(f"fiftyone_isoclip.cli.{_module}"), f"run_{_module}"))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"isoclip {__version__}")
        raise typer.Exit


@app.callback()
def _isoclip(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """IsoCLIP: CLIP embeddings made for comparing images with images.

    Everything works on folders and lists of image files, without a database; `dataset:NAME` names
    the images of a FiftyOne dataset instead.
    """
