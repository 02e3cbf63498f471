"""`isoclip search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.options import BandChoice, Device, ImagesPath, JsonFile, ModelName
from fiftyone_isoclip.cli.screen import note, progress_bar, report, show_table
from fiftyone_isoclip.cli.sources import embed_source, require_images
from fiftyone_isoclip.errors import IsoClipError

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip
    from fiftyone_isoclip.files import FileEmbeddings, FileResults

ImageQueries = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="FILE", help="An image to search with; may be repeated."),
]
TextQueries = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="A text to search with; may be repeated."),
]
QueryList = Annotated[
    Path | None,
    typer.Option("--queries", metavar="LIST", help="A folder or a list of images to search with."),
]
Count = Annotated[int, typer.Option("-k", "--count", min=1, help="Results for each query.")]


def run_search(
    path: ImagesPath,
    image: ImageQueries = None,
    text: TextQueries = None,
    queries: QueryList = None,
    count: Count = 10,
    model: ModelName = None,
    band: BandChoice = None,
    json: JsonFile = None,
    device: Device = "auto",
) -> None:
    """Find the images most like an image (--image, --queries) or a text (--text).

    Images are compared by their IsoCLIP embeddings, a text with the plain CLIP embeddings. A query
    image that is among the images (the same file, by whatever name) is not among its own results;
    a copy of it is.
    """
    if sum(map(bool, (image, text, queries))) != 1:
        raise typer.BadParameter("give one of --image FILE, --text TEXT and --queries LIST")
    if text and band is not None:
        raise typer.BadParameter("--band is for image queries: a text is compared by plain CLIP")
    asked = list(image or ()) if queries is None else files.read_paths(queries)
    if not text and not asked:
        raise IsoClipError(f"{queries} names no image to search with")
    clip, embedded = embed_source(path, model, device, band)
    if text:
        results = _search_texts(clip, embedded, text, count)
    else:
        with progress_bar("Searching", len(asked)) as advance:
            results = files.search_files(
                embedded, clip, asked, count=count, band=band, progress=advance
            )
    failed = [result for result in results if result.failed]
    for result in failed:
        note(f"no results for {result.query}: {result.failed}")
    report([result.to_json() for result in results], json, lambda: _show(results))
    require_images(path, embedded)
    if len(failed) == len(results):
        raise IsoClipError("none of the query images can be read")


def _search_texts(
    clip: Clip, embedded: FileEmbeddings, texts: list[str], count: int
) -> list[FileResults]:
    if unknown := clip.unknown_words(texts):
        note(f"{clip.checkpoint.name} does not know: {', '.join(unknown)}")
    return files.search_files_by_text(embedded, clip, texts, count=count)


def _show(results: list[FileResults]) -> None:
    rows = [
        (result.query if not place else "", f"{match.similarity:.3f}", match.path)
        for result in results
        for place, match in enumerate(result.matches)
    ]
    show_table(("query", "similarity", "path"), rows)
