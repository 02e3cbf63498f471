"""`isoclip embed --store`: its options, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fiftyone_isoclip.cli.screen import note, note_failures, on_stderr, progress_bar, report, say
from fiftyone_isoclip.errors import IsoClipError

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import Embedded, Images


def _check_uri(uri: str | None) -> str | None:
    if uri is not None and not uri.strip():
        raise typer.BadParameter("the URI of the store is empty; name a folder or a URI")
    return uri


StoreUri = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        callback=_check_uri,
        help="Put the embeddings into this store of Parquet shards instead, a folder or a URI such "
        "as s3://BUCKET/FOLDER; begun here or continued. PATH may then be such a URI as well, or a "
        ".parquet file with the columns id and path, whose paths may be URIs.",
        show_default=False,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="With --store, what runs the model: this process, or workers of Ray, on the cluster "
        "that RAY_ADDRESS names or on this machine. Both write the same shards.",
        show_default="local",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="With --engine ray, the processes that load the model; by default one for each GPU, "
        "or for each core where there is none.",
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="With --store, what the tower runs in: auto, float32, bf16 or fp16.",
        show_default="auto",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|float16",
        help="With --store, how the numbers are stored; float16 takes half the room.",
        show_default="float32",
    ),
]
ShardRows = Annotated[
    int | None,
    typer.Option(
        "--shard-rows",
        min=1,
        help="With --store, images in a shard: what a killed worker has to do again.",
        show_default="1024",
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="With --store, take those of the images that failed before out of their shards, and "
        "try them again.",
    ),
]


class Wanted(NamedTuple):
    """What was asked of a store; None where nothing was."""

    engine: str | None = None
    workers: int | None = None
    precision: str | None = None
    dtype: str | None = None
    shard_rows: int | None = None
    retry_failed: bool = False


def embed_to_store(
    path: str, uri: str, model: tuple[str | None, str, str], wanted: Wanted, json: Path | None
) -> None:
    """Embed what a path names into a store, and tell what became of it.

    ``model`` is a checkpoint (None: the demo's), a device and a decoding.

    Raises:
        IsoClipError: nothing is there, none of it can be read, or the store refuses.
    """
    from fiftyone_isoclip.shards import read_images

    images = read_images(path)
    if images.aliases:
        note(f"left out {len(images.aliases)} further names (links) of files already listed")
    if not len(images):
        report(_summary(uri, images, None), json, lambda: None)
        raise IsoClipError(f"{path} holds no images; nothing was done")
    embedded = _run(images, uri, model, wanted)
    for name, wrong in embedded.mended.items():
        note(f"mended {uri}: {name}: {wrong}")
    if embedded.retried:
        note(f"tried {embedded.retried} images again that had failed before")
    note_failures(images.unreadable | embedded.reasons, len(images))
    report(_summary(uri, images, embedded), json, lambda: say(_sentence(path, uri, embedded)))
    if embedded.n == len(embedded.reasons):
        raise IsoClipError(f"none of the {embedded.n} images of {path} can be read")


def _run(images: Images, uri: str, model: tuple[str | None, str, str], wanted: Wanted) -> Embedded:
    # Imported only now: a wrong path is told at once, without the seconds that torch takes.
    from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
    from fiftyone_isoclip.shards import Encoding, embed_into_store

    checkpoint, device, decoding = model
    encoding = Encoding(checkpoint or DEMO_NAME, device, wanted.precision or "auto", decoding)
    with on_stderr(), progress_bar("Embedding", len(images)) as advance:
        return embed_into_store(
            images,
            uri,
            encoding,
            engine=wanted.engine or "local",
            workers=wanted.workers,
            dtype=wanted.dtype,
            shard_rows=wanted.shard_rows,
            retry_failed=wanted.retry_failed,
            progress=advance,
        )


def _summary(uri: str, images: Images, embedded: Embedded | None) -> dict[str, Any]:
    reasons = {} if embedded is None else embedded.reasons
    failed = images.unreadable | reasons
    summary: dict[str, Any] = {
        "images": len(images),
        "embedded": len(images) - len(reasons) if embedded else 0,
        "failed": [{"id": id_, "reason": reason} for id_, reason in failed.items()],
        "store": uri,
    }
    if embedded is None:
        return summary
    manifest = embedded.store.manifest
    return summary | {
        "before": embedded.before,
        "retried": embedded.retried,
        "mended": embedded.mended,
        "shards": len(manifest.shards),
        "model": manifest.recipe.checkpoint,
        "fingerprint": manifest.recipe.fingerprint,
        "precision": manifest.recipe.precision,
        "dim": manifest.recipe.dim,
        "dtype": manifest.dtype,
    }


def _sentence(path: str, uri: str, embedded: Embedded) -> str:
    done = embedded.n - len(embedded.reasons)
    before = f", {embedded.before} images from before" if embedded.before else ""
    return f"{done} of {embedded.n} images of {path} are embedded in {uri}{before}"
