"""Where the vectors of an index lie, as its form asks; which databases the App may open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context, check, is_from_app, parse_band
from fiftyone_isoclip.dataset.places import is_below, side_path
from fiftyone_isoclip.dataset.similarity_backends.backend import open_database
from fiftyone_isoclip.dataset.similarity_backends.config import (
    TableConfig,
    check_band,
    environment,
    make_config,
)
from fiftyone_isoclip.errors import DatasetError

PLACES = {
    "faiss": "faiss: in the memory of the App's process",
    "lancedb": "LanceDB: files in a folder or an object store",
    "milvus": "Milvus: a server, or a file",
    "pgvector": "pgvector: a PostgreSQL",
}


def choose_one(inputs: types.Object, name: str, label: str, choices: dict[str, str]) -> None:
    """One of a few, the first unless another is asked for."""
    view = types.RadioView()
    for value, told in choices.items():
        view.add_choice(value, label=told)
    inputs.str(name, label=label, default=next(iter(choices)), required=True, view=view)


def choose_place(inputs: types.Object, ctx: Context) -> str:
    """Where the vectors are to lie, and for a database its address and whether it answers text."""
    choose_one(inputs, "backend", "Where the vectors lie", PLACES)
    backend = str(ctx.params.get("backend") or "faiss")
    if backend == "faiss":
        return backend
    uri = inputs.str(
        "uri",
        label="Address of the database",
        description="default: what the environment says, which alone can name a server or an "
        f"address with a secret; else that of an earlier index, or a path below {_folder()}",
    )
    check(uri, lambda: _check_place(ctx, backend))
    inputs.bool("text", label="Answer text, too, from a second table", default=True)
    return backend


def find_place(ctx: Context) -> dict[str, Any]:
    """Where the vectors are to lie, as `build_similarity` takes it, once a database is reached.

    Raises:
        IsoClipError: it cannot be, or does not hold what was asked for.
    """
    backend = str(ctx.params.get("backend") or "faiss")
    if backend == "faiss":
        return {}  # an address may be left from when another was chosen
    _check_place(ctx, backend)
    uri = ctx.params.get("uri") or None
    open_database(ctx.dataset, backend, uri)
    return {"backend": backend, "uri": uri, "text": ctx.params.get("text", True)}


def _check_place(ctx: Context, backend: str) -> None:
    """Refuse what a database does not hold, and an address that the App must not be given.

    Who reaches the App need not be who owns the files and networks of the machine it runs on.
    """
    check_band(backend, parse_band(ctx.params.get("band")))
    uri = ctx.params.get("uri")
    config = make_config(backend, uri, storage=ctx.params.get("storage") or "float32")
    if uri and config.holds_secret(uri):
        raise DatasetError(
            "the address may hold a user, a password or a key (a URI with @, ? or #), which no "
            f"form keeps to itself; set the environment variable {config.address_variable} where "
            "the App runs, and give none here"
        )
    # Before it is looked for: whether there is such a server or folder is nobody's business.
    if uri and is_from_app(ctx) and not _is_known(ctx.dataset, config, uri):
        raise DatasetError(
            f"the App opens a database only at the address that {config.address_variable} names "
            f"where it runs, at that of an earlier index of this dataset, or below {_folder()}; "
            "give such an address, or build the index in Python"
        )


def _is_known(dataset: fo.Dataset, config: TableConfig, uri: str) -> bool:
    """Whether somebody who owns the machine named an address, or gave its folder to indexes."""
    if config.is_path(uri) and is_below(Path(uri), _folder()):
        return True
    indexes = (
        dataset.get_brain_info(key).config for key in dataset.list_brain_runs(type="similarity")
    )
    named = [each.address for each in indexes if isinstance(each, type(config))]
    return uri in [environment(config.method).get(config.address_setting), *named]


def _folder() -> Path:
    """Where the App may put databases that are files."""
    return side_path("indexes")
