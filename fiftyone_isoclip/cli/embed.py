"""`isoclip embed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.options import (
    Decoding,
    Device,
    ImagesPath,
    JsonFile,
    ModelName,
    check_output,
    require_engine,
)
from fiftyone_isoclip.cli.screen import note_failures, on_stderr, report, say
from fiftyone_isoclip.cli.sources import (
    DATASET_PREFIX,
    embed_source,
    load_dataset,
    load_model,
    require_images,
)
from fiftyone_isoclip.cli.stores import (
    Dtype,
    Engine,
    Precision,
    RetryFailed,
    ShardRows,
    StoreUri,
    Wanted,
    Workers,
    embed_to_store,
)
from fiftyone_isoclip.files import Listing
from fiftyone_isoclip.files.reports import list_failures

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_isoclip.encoder import Clip
    from fiftyone_isoclip.files import FileEmbeddings

OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE.npz",
        callback=check_output,
        help="Where the embeddings go; needed unless PATH is dataset:NAME or --store is given.",
        show_default=False,
    ),
]

OnSamples = Annotated[
    bool | None,
    typer.Option(
        "--on-samples/--in-files",
        help="With dataset:NAME, keep the embeddings on the samples, or in files alone, which "
        "keeps the database small; what is stored already is moved.",
        show_default=False,
    ),
]


def run_embed(
    path: ImagesPath,
    out: OutFile = None,
    model: ModelName = None,
    json: JsonFile = None,
    device: Device = "auto",
    on_samples: OnSamples = None,
    decoding: Decoding = "exact",
    store: StoreUri = None,
    engine: Engine = None,
    workers: Workers = None,
    precision: Precision = None,
    dtype: Dtype = None,
    shard_rows: ShardRows = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Compute the plain CLIP embeddings of images once, for every later command and band.

    FILE.npz holds the arrays paths, embeddings (float32, as CLIP gives them), failed_paths,
    failed_reasons, model and fingerprint; give it as PATH to search, duplicates and clusters.
    With dataset:NAME the embeddings are stored on the samples (field clip_embedding, only what is
    new or changed is computed), and in FILE.npz as well if --out names one.

    With --store they go into Parquet shards with the columns id, path, bytes, embedding, status
    and reason, on one machine or on many. A run that was stopped goes on where it was: start it
    again. What failed before stays as it is, unless --retry-failed is given.
    """
    wanted = Wanted(engine, workers, precision, dtype, shard_rows, retry_failed)
    if store is not None:
        if path.startswith(DATASET_PREFIX) or out is not None or on_samples is not None:
            raise typer.BadParameter(
                "--store takes files and keeps everything itself: give neither dataset:NAME nor "
                "--out, --on-samples or --in-files with it"
            )
        require_engine(engine, workers)
        embed_to_store(path, store, (model, device, decoding), wanted, json)
        return
    if wanted != Wanted():
        raise typer.BadParameter(
            "--engine, --workers, --precision, --dtype, --shard-rows and --retry-failed are for "
            "--store"
        )
    if path.startswith(DATASET_PREFIX):
        clip = load_model(model, device, decoding)
        embedded = _embed_dataset(load_dataset(path), clip, on_samples)
    elif on_samples is not None:
        raise typer.BadParameter("--on-samples and --in-files are for PATH dataset:NAME")
    elif out is None:
        raise typer.BadParameter("--out FILE.npz or --store URI is needed to store the embeddings")
    else:
        clip, embedded = embed_source(path, model, device, decoding=decoding)
    if len(embedded.rows) == 0:
        out = None  # an earlier result is worth more than an empty file
    if out is not None:
        files.write_embeddings(out, embedded, clip)
    report(_summary(clip, embedded, out), json, lambda: say(_sentence(path, embedded, out)))
    require_images(path, embedded)


def _embed_dataset(dataset: fo.Dataset, clip: Clip, on_samples: bool | None) -> FileEmbeddings:
    from fiftyone_isoclip.dataset import embed

    with on_stderr():
        field = embed(dataset, clip, on_samples=on_samples).field
    return _stored(dataset, field, clip.dim)


def _stored(dataset: fo.Dataset, field: str, dim: int) -> FileEmbeddings:
    """What is stored for the samples, each real file once."""
    from fiftyone_isoclip.dataset.vectors import read_vectors

    ids, paths, errors = dataset.values(["id", "filepath", f"{field}_error"])
    stored = read_vectors(dataset, field, dim)
    listing = Listing.of(paths)
    row_of = {path: stored.row_of.get(id_) for id_, path in zip(ids, paths, strict=True)}
    why = dict(zip(paths, errors, strict=True))
    rows = [row for row, path in enumerate(listing.paths) if row_of[path] is not None]
    held = [row for path in listing.paths if (row := row_of[path]) is not None]
    failed = {path: str(why[path]) for path in listing.paths if row_of[path] is None}
    note_failures(failed, len(listing.paths))
    return files.FileEmbeddings(
        listing.paths,
        np.array(rows, np.int64),
        stored.vectors[held],
        failed,
        listing.aliases,
    )


def _summary(clip: Clip, embedded: FileEmbeddings, out: Path | None) -> dict[str, Any]:
    return {
        "images": len(embedded.paths),
        "embedded": len(embedded.rows),
        "failed": list_failures(embedded.failed),
        "model": clip.checkpoint.name,
        "fingerprint": clip.fingerprint,
        "dim": clip.dim,
        "device": clip.device,
        "file": None if out is None else str(out),
    }


def _sentence(path: str, embedded: FileEmbeddings, out: Path | None) -> str:
    return (
        f"{len(embedded.rows)} of {len(embedded.paths)} images of {path} are embedded"
        f"{'' if out is None else f' in {out}'}"
    )
