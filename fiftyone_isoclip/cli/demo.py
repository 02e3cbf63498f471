"""`isoclip demo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fiftyone_isoclip.cli.options import JsonFile, ModelName
from fiftyone_isoclip.cli.screen import note, on_stderr, report, say
from fiftyone_isoclip.installation import LOOPBACK

Pictures = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        help="A folder or a list of your own images, read where they are; by default photographs "
        "that come with installed packages, with planted copies, and rendered scenes.",
        show_default=False,
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="The FiftyOne dataset to make; isoclip-demo, or isoclip-demo-FOLDER, if left out.",
        show_default=False,
    ),
]
App = Annotated[bool, typer.Option("--app/--no-app", help="Open the FiftyOne App at the end.")]
Port = Annotated[
    int | None,
    typer.Option("--port", help="Of the App; by default FiftyOne's own.", show_default=False),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        help="At which the App listens. Whoever reaches any other than this machine's own can read "
        "all files that you can read.",
    ),
]


def run_demo(
    path: Pictures = None,
    app: App = True,
    name: DatasetName = None,
    model: ModelName = None,
    address: Address = LOOPBACK,
    port: Port = None,
    json: JsonFile = None,
) -> None:
    """Make a FiftyOne dataset, embed it, find its duplicates and clusters, and open the App.

    The dataset stays, and running again reuses what is still current.
    """
    with on_stderr():
        from fiftyone_isoclip.demo import run
        from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME

        summary = run.run_demo(path, name=name, model=model or DEMO_NAME)
    report(asdict(summary), json, lambda: say(summary))
    if app:
        with on_stderr():
            run.open_app(summary.dataset, address=address, port=port)
    else:
        note("The same without --no-app opens the App on it; what is current is not made again.")
