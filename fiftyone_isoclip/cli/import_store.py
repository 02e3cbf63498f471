"""`isoclip import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import STDOUT, note, on_stderr, report, say
from fiftyone_isoclip.cli.verify import StorePath

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset import DuplicateReport

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
OnSamples = Annotated[
    bool | None,
    typer.Option(
        "--on-samples/--in-files",
        help="Where the dataset keeps the embeddings: on its samples, or in files alone, which "
        "keeps the database small. What it has already is moved.",
        show_default=False,
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
DuplicatesFile = Annotated[
    Path | None,
    typer.Option(
        "--duplicates",
        metavar="FILE.parquet",
        help="Take the groups that `isoclip duplicates STORE --out FILE.parquet` found as well, as "
        "a run to review in the App.",
        show_default=False,
    ),
]
RunKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="NAME",
        help="With --duplicates, the name of the run.",
        show_default="store_duplicates",
    ),
]


def run_import_store(
    store: StorePath,
    dataset: DatasetName,
    field: FieldName = None,
    on_samples: OnSamples = None,
    media_root: MediaRoot = None,
    duplicates: DuplicatesFile = None,
    key: RunKey = None,
    json: JsonFile = None,
) -> None:
    """Take a store of embeddings into a FiftyOne dataset, a piece at a time.

    Every image of the store gets a sample, or finds its own by id or path; images without an
    embedding say why in the field NAME_error. What the dataset has already is left alone, so an
    import that was stopped goes on: start it again. At the end the database is asked what it has.
    """
    if key is not None and duplicates is None:
        raise typer.BadParameter("--key names what --duplicates brings; give both")
    folder = None if media_root is None else str(media_root)
    with on_stderr():
        from fiftyone_isoclip.dataset import import_store
        from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD
        from fiftyone_isoclip.dataset.imported_groups import IMPORTED_KEY, check_duplicates

        chosen, name = field or DEFAULT_FIELD, key or IMPORTED_KEY
        if duplicates is not None:
            check_duplicates(duplicates, store, dataset, name)
        imported = import_store(
            store, dataset, field=chosen, on_samples=on_samples, media_root=folder, progress=True
        )
    summary = asdict(imported)
    if duplicates is None:
        report(summary, json, lambda: say(imported))
        return
    # Said at once: the vectors are there, whatever comes of the groups.
    (note if json == STDOUT else say)(str(imported))
    found = _import_duplicates(duplicates, dataset, chosen, name, folder)
    summary["duplicates"] = {"key": found.key, "groups": len(found.groups)}
    summary["duplicates"] |= {"duplicates": found.n_duplicates, "skipped": found.n_skipped}
    report(summary, json, lambda: say(f"run {found.key!r}: {found}"))


def _import_duplicates(
    file: Path, name: str, field: str, key: str, media_root: str | None
) -> DuplicateReport:
    with on_stderr():
        import fiftyone as fo

        from fiftyone_isoclip.dataset import import_duplicates

        dataset = fo.load_dataset(name)
        return import_duplicates(file, dataset, field=field, key=key, media_root=media_root)
