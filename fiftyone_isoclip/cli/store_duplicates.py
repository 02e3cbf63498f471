"""`isoclip duplicates STORE`: its options, and what it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from fiftyone_isoclip.cli.options import check_output
from fiftyone_isoclip.cli.screen import note, on_stderr, report, say, show_table, steps_bar
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.listing import is_uri
from fiftyone_isoclip.index.probes import DEFAULT_RECALL

if TYPE_CHECKING:
    from fiftyone_isoclip.projector import Band
    from fiftyone_isoclip.shards import StoreDuplicates
    from fiftyone_isoclip.shards.duplicates.found import Facts

_LOOKED_AT = 20


def _check_out(file: Path | None) -> Path | None:
    if file is not None and file.suffix != ".parquet":
        raise typer.BadParameter(f"{file} is to hold Parquet; give it a name ending in .parquet")
    return check_output(file)


Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="Of a store, what compares: this process, or workers of Ray, on the cluster that "
        "RAY_ADDRESS names or on this machine. Both find the same groups.",
        show_default="local",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="With --engine ray, the tasks that run at a time; by default one for each core.",
        show_default=False,
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE.parquet",
        callback=_check_out,
        help="Of a store, write a row for each image of a group: group, component, id, path, role, "
        "similarity and reason.",
        show_default=False,
    ),
]


class Wanted(NamedTuple):
    """What was asked of a store alone; None where nothing was."""

    engine: str | None = None
    workers: int | None = None
    out: Path | None = None


def is_store(path: str) -> bool:
    """Whether a path names a store of embeddings: a folder with its manifest, or any URI."""
    # Of os: a path that cannot be is not there, where that of pathlib fails.
    manifest, shards = (os.path.join(path, name) for name in ("manifest.json", "shards"))  # noqa: PTH118
    return is_uri(path) or (os.path.isfile(manifest) and os.path.isdir(shards))  # noqa: PTH112, PTH113


def find_in_store(
    uri: str,
    similarity: float,
    band: Band | None,
    recall: float | None,
    keep: str,
    wanted: Wanted,
    json: Path | None,
) -> None:
    """Find the duplicates of a store, and tell of them.

    Raises:
        IsoClipError: there is no such store, or it cannot be searched so.
    """
    # Imported only now: few commands are about stores, and none of the others needs pyarrow.
    from fiftyone_isoclip.shards import find_store_duplicates

    with on_stderr(), steps_bar() as move:
        found = find_store_duplicates(
            uri,
            similarity=similarity,
            band=band,
            recall=DEFAULT_RECALL if recall is None else recall,
            engine=wanted.engine or "local",
            workers=wanted.workers,
            prefer=keep,
            progress=move,
        )
    if found.facts.prefer != keep:
        note(f"keepers are chosen by {found.facts.prefer}: not all files are here for {keep}")
    if wanted.out is not None:
        found.write(wanted.out)
        note(f"wrote {wanted.out}")
    # A row is ten times as large in JSON: it must not take the file along where memory ends.
    report(None if json is None else found.to_json(), json, lambda: _show(found))
    if not found.facts.images:
        raise IsoClipError(f"{uri} holds no images; nothing was done")


def _show(found: StoreDuplicates) -> None:
    rows, keeper = [], ""
    for row in found.rows.slice(0, _LOOKED_AT).to_pylist():
        if row["similarity"] is None:
            keeper = row["path"]
        else:
            rows.append((keeper, row["path"], f"{row['similarity']:.3f}"))
            keeper = ""
    if rows:
        show_table(("keep", "duplicate", "similarity"), rows)
    more = found.duplicates - len(rows)
    if more:
        say(f"... and {more} more (--out FILE.parquet holds all)")
    groups = f"{found.groups} group{'s' * (found.groups != 1)}"
    say(f"{found.duplicates} of {found.facts.images} images are duplicates, in {groups}")
    say(_certainty(found.facts))


def _certainty(facts: Facts) -> str:
    if facts.exact:
        return "every pair was compared"
    looked = f"each image was compared in {facts.visited} of {facts.cells} cells"
    if facts.recall is None:
        return f"{looked}; recall unknown, of 0 known pairs"
    return (
        f"{looked}; recall {facts.recall:.4f} by image, of {facts.known_pairs} known pairs (with "
        f"95 % confidence between {facts.recall_low:.4f} and {facts.recall_high:.4f})"
    )
