"""`isoclip import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fiftyone_isoclip.cli.embed import OnSamples
from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import on_stderr, report, say
from fiftyone_isoclip.cli.verify import StorePath

DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="The FiftyOne dataset that takes the images; it is made if there is none.",
        show_default=False,
    ),
]
FieldName = Annotated[
    str | None,
    typer.Option(
        "--field",
        metavar="NAME",
        help="The field that the embeddings go to.",
        show_default="clip_embedding",
    ),
]
MediaRoot = Annotated[
    Path | None,
    typer.Option(
        "--media-root",
        metavar="FOLDER",
        help="For images that the store names by a URI: the folder where they are on this machine, "
        "copied or mounted, such that s3://BUCKET/NAME is FOLDER/BUCKET/NAME.",
        show_default=False,
    ),
]


def run_import_store(
    store: StorePath,
    dataset: DatasetName,
    field: FieldName = None,
    on_samples: OnSamples = None,
    media_root: MediaRoot = None,
    json: JsonFile = None,
) -> None:
    """Take a store of embeddings into a FiftyOne dataset, a piece at a time.

    Every image of the store gets a sample, or finds its own by id or path; images without an
    embedding say why in the field NAME_error. What the dataset has already is left alone, so an
    import that was stopped goes on: start it again. At the end the database is asked what it has.
    """
    with on_stderr():
        from fiftyone_isoclip.dataset import import_store
        from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD

        imported = import_store(
            store,
            dataset,
            field=field or DEFAULT_FIELD,
            on_samples=on_samples,
            media_root=None if media_root is None else str(media_root),
            progress=True,
        )
    report(asdict(imported), json, lambda: say(imported))
