"""`isoclip verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import report, say, show_table
from fiftyone_isoclip.errors import IsoClipError

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import Contents, ShardStore

StorePath = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        help="A store that `isoclip embed --store` made: a folder, or a URI.",
        show_default=False,
    ),
]


def run_verify(store: StorePath, json: JsonFile = None) -> None:
    """Read a store of embeddings from end to end, and check all of it.

    Every shard is compared with its checksum, its name and the weights that the store is of; no
    shard may be missing and no id may be there twice. The exit code is 1 if something is wrong.
    """
    from fiftyone_isoclip.shards import open_store

    opened = open_store(store)
    contents = opened.look()
    report(_summary(opened, contents), json, lambda: _show(opened, contents))
    if problems := contents.problems:
        raise IsoClipError(
            f"{store} is damaged: of {len(problems)} of its shards something is wrong, such as "
            f"{next(iter(problems))}; run the same `isoclip embed` again: it keeps what is whole"
        )
    if not contents.complete:
        raise IsoClipError(
            f"the last run that wrote to {store} has not ended, or was stopped; what is there is "
            "whole: run the same `isoclip embed` again for the rest"
        )


def _summary(store: ShardStore, contents: Contents) -> dict[str, Any]:
    manifest = store.manifest
    return {
        "images": len(contents.ids),
        "embedded": len(contents.ids) - len(contents.reasons),
        "failed": len(contents.reasons),
        "shards": len(contents.shards),
        "complete": contents.complete,
        "problems": [{"shard": name, "wrong": wrong} for name, wrong in contents.problems.items()],
        "model": manifest.recipe.checkpoint,
        "fingerprint": manifest.recipe.fingerprint,
        "precision": manifest.recipe.precision,
        "decoding": manifest.recipe.decoding,
        "dim": manifest.recipe.dim,
        "dtype": manifest.dtype,
        "versions": dict(manifest.versions),
    }


def _show(store: ShardStore, contents: Contents) -> None:
    manifest, n_shards = store.manifest, len(contents.shards)
    say(
        f"{store.uri}: {len(contents.ids)} images in {n_shards} shard{'s' * (n_shards != 1)}, "
        f"{len(contents.reasons)} of them without an embedding"
    )
    say(f"{manifest.recipe.dim} numbers each, {manifest.dtype}, of {manifest.recipe}")
    if contents.problems:
        show_table(("shard", "what is wrong"), contents.problems.items())
