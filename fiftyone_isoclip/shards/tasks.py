"""Which images are to be embedded, and in which shards: always the same for the same images."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files import Listing, list_files
from fiftyone_isoclip.files.listing import OWN, URI, is_uri, own_path
from fiftyone_isoclip.shards.place import in_a_line, open_place
from fiftyone_isoclip.shards.remote import list_remote

PARQUET = ".parquet"


class Task(NamedTuple):
    """The images of a shard to be: n ids, and the path of each."""

    ids: tuple[str, ...]
    paths: tuple[str, ...]

    @classmethod
    def of(cls, table: pa.Table) -> Task:
        """The task that a table of the columns id and path holds."""
        return cls(tuple(table["id"].to_pylist()), tuple(table["path"].to_pylist()))


@dataclass(frozen=True, eq=False, slots=True)
class Images:
    """The images to embed, sorted by id.

    ``table`` has the columns id and path, n rows; ``unreadable`` maps folders that could not be
    entered to the reason, and ``aliases`` are further names of files that are in the table.
    """

    table: pa.Table
    unreadable: dict[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()

    @classmethod
    def of(cls, ids: object, paths: object) -> Images:
        """Images by their ids and paths, each id once.

        Raises:
            IsoClipError: an id is there twice, or an id or path is missing or no text.
        """
        columns = {"id": _text(ids, "id"), "path": _text(paths, "path")}
        table = pa.table(columns).sort_by("id")
        sorted_ids = table["id"].combine_chunks()
        again = pc.equal(sorted_ids[1:], sorted_ids[:-1])
        if pc.any(again).as_py():
            twice = sorted_ids[1:].filter(again)[0].as_py()
            raise IsoClipError(f"the id {twice!r} is there more than once; give each image its own")
        return cls(table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def among(self, reasons: dict[str, str]) -> dict[str, str]:
        """Of some reasons by id, those of images that are here."""
        known = pc.is_in(pa.array(list(reasons), pa.large_string()), value_set=self.table["id"])
        return {id_: reasons[id_] for id_ in itertools.compress(reasons, known.to_pylist())}

    def tasks(self, done: pa.ChunkedArray, shard_rows: int) -> list[pa.Table]:
        """The tables of the shards that are still to be made, where these ids are done.

        Shards are cut from sorted ids, so what is left after some of them falls into the same ones
        again: a rerun makes the very files that an undisturbed run would have made.
        """
        known = pc.is_in(self.table["id"], value_set=done.cast(pa.large_string()))
        left = self.table.filter(pc.invert(known))
        return [left.slice(start, shard_rows) for start in range(0, len(left), shard_rows)]


def read_images(path: str) -> Images:
    """The images that a folder, a list, an image file or a Parquet file names.

    A Parquet file (or a folder of them) has a name that ends in ``.parquet`` and the columns id and
    path; elsewhere the absolute path or the URI is the id. Each real file is taken once. Whatever
    names a file may be a URI, in a Parquet file too; of one that begins with ``file:///`` or
    ``file://localhost/`` the path is taken.

    Raises:
        IsoClipError: nothing is there, it cannot be read, or ids are not unique.
    """
    path = own_path(path)
    if path.rstrip("/").endswith(PARQUET):
        return _read_parquet(path)
    if is_uri(path):
        uris = list_remote(path)
        return Images.of(uris, uris)
    listing: Listing = list_files(path)
    paths = [os.path.abspath(each) for each in listing.paths]  # noqa: PTH100 (a link stays one)
    images = Images.of(paths, paths)
    return Images(images.table, listing.unreadable, listing.aliases)


def _read_parquet(path: str) -> Images:
    place = open_place(path)
    try:
        found = pyarrow.dataset.dataset(place.root, filesystem=place.filesystem, format="parquet")
        has_both = {"id", "path"}.issubset(found.schema.names)
        table = found.to_table(columns=["id", "path"]) if has_both else None
    except Exception as error:  # each filesystem has errors of its own
        raise IsoClipError(f"{path} cannot be read as Parquet: {in_a_line(error)}") from error
    if table is None:
        raise IsoClipError(
            f"{path} needs the columns id and path, and has {', '.join(found.schema.names)} alone"
        )
    paths = _text(table["path"], "path")
    if pc.any(pc.match_substring_regex(paths, OWN)).as_py():
        paths = _text([own_path(path) for path in paths.to_pylist()], "path")
    folder, end = (pa.scalar(text, pa.large_string()) for text in (f"{Path.cwd()}/", ""))
    from_here = pc.binary_join_element_wise(folder, paths, end)
    absolute = pc.or_(pc.starts_with(paths, "/"), pc.match_substring_regex(paths, URI))
    return Images.of(table["id"], pc.if_else(absolute, paths, from_here))


def _text(values: object, name: str) -> pa.Array:
    try:
        found = values if isinstance(values, pa.ChunkedArray) else pa.array(values, pa.string())
        found = found.cast(pa.large_string())
    except UnicodeEncodeError as error:
        raise IsoClipError(
            f"the {name} {error.object!r} is not UTF-8, and Parquet holds no other text; rename "
            "that file, or leave it out"
        ) from error
    except (pa.ArrowException, TypeError) as error:
        raise IsoClipError(f"the column {name} holds no text: {error}") from error
    if found.null_count:
        raise IsoClipError(f"the column {name} has {found.null_count} empty places; fill them")
    return found
