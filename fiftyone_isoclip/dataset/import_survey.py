"""Whether a dataset can take a store: that is whole, fits the field, and has its images here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import unquote

import fiftyone as fo
from bson import ObjectId

from fiftyone_isoclip.dataset.fields import (
    Origin,
    claim_field,
    dataset_of,
    read_origin,
    write_info,
)
from fiftyone_isoclip.dataset.similarity_field import existing_ids
from fiftyone_isoclip.dataset.targets import Fields
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files.listing import is_uri

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import Recipe, Shard, ShardStore

_OWN = "file://"
_RECIPE = "isoclip_store"


def survey(store: ShardStore, dataset: fo.Dataset | None, media_root: str | None) -> int:
    """Read all of a store before anything is written; -> how many images it has.

    Args:
        store: the store.
        dataset: what is to take it; None if that is still to be made.
        media_root: the folder that stands for other filesystems.

    Raises:
        StoreError: it is not whole.
        DatasetError: nobody said where its images are, two filesystems would be one folder, or no
            filesystem needs a folder.
    """
    store.require_whole()
    roots: dict[str, str] = {}
    images = 0
    for shard in store:
        images += len(shard.ids)
        _check_paths(shard, dataset, media_root)
        if media_root is not None:
            _check_roots(shard.paths, roots, media_root)
    if media_root is not None and not roots:
        raise DatasetError(
            f"media_root {media_root!r} stands for other filesystems, and the store names files of "
            "this machine alone; leave it out. Pictures that have moved are embedded again, or "
            "their samples get the new path: dataset.set_values('filepath', ...)"
        )
    return images


def check_field(dataset: fo.Dataset, field: str, recipe: Recipe) -> None:
    """Refuse a field that holds something else than a store would bring.

    Raises:
        DatasetError: it has another type, or vectors of another checkpoint or another recipe.
    """
    fields = Fields.of(dataset_of(dataset), field, None)
    if read_origin(dataset, field) is not None:
        claim_field(dataset, field, origin_of(recipe), overwrite=False)
    before = _read_recipe(dataset, field)
    if before is None or before.fingerprint != recipe.fingerprint or recipe.fits(before):
        return
    if dataset.has_field(fields.source) and dataset.count(fields.source):
        raise DatasetError(
            f"embeddings of {recipe} were to go into field {field!r}, which took those of {before} "
            "from a store before; choose another field"
        )


def _read_recipe(dataset: fo.Dataset, field: str) -> Recipe | None:
    """That of the store which the field took embeddings from before; `embed` notes none."""
    from fiftyone_isoclip.shards import Recipe

    told = (getattr(dataset.get_field(field), "info", None) or {}).get(_RECIPE)
    return None if told is None else Recipe(**told)


def note_recipe(dataset: fo.Dataset, field: str, recipe: Recipe) -> None:
    """Note on a field what made the vectors that it takes."""
    before = _read_recipe(dataset, field)
    if before is None or not recipe.fits(before):
        write_info(dataset, field, _RECIPE, asdict(recipe))


def origin_of(recipe: Recipe) -> Origin:
    """What is known of the vectors of a store once they are in a field."""
    return Origin(recipe.checkpoint, recipe.fingerprint, recipe.dim)


def local_path(path: str, media_root: str | None) -> str | None:
    """Where an image of a store is on this machine; None if nobody said what stands for its URI.

    Raises:
        DatasetError: a URI names no file below the folder that stands for its filesystem.
    """
    if path.startswith(f"{_OWN}/"):
        path = unquote(path.removeprefix(_OWN))
    if not is_uri(path):
        return os.path.abspath(path)  # noqa: PTH100 (as FiftyOne does it: a link stays one)
    if media_root is None:
        return None
    _, parts = _split(path)
    if not {"", ".", ".."}.isdisjoint(parts):
        raise DatasetError(
            f"the store names {path}, which has no place of its own below {media_root}: between "
            "its slashes are names that no file has; embed that image under another name"
        )
    return os.path.abspath(os.path.join(media_root, *parts))  # noqa: PTH100, PTH118


def nowhere(what: str) -> DatasetError:
    """Say that an image is not on this machine."""
    return DatasetError(
        f"the store names {what}, and FiftyOne shows files of this machine; copy or mount what "
        "lies there, and give the folder with media_root=... (--media-root FOLDER): "
        "s3://BUCKET/NAME is then FOLDER/BUCKET/NAME, which need not be there yet"
    )


def _split(uri: str) -> tuple[str, list[str]]:
    """The filesystem of a URI and its first name, and all names; hdfs:///NAME has no host."""
    scheme, _, rest = uri.partition("://")
    parts = rest.removeprefix("/").split("/")
    return f"{scheme.lower()}://{'/' * rest.startswith('/')}{parts[0]}", parts


def _check_paths(shard: Shard, dataset: fo.Dataset | None, media_root: str | None) -> None:
    """Refuse images on other filesystems, unless their ids are those of samples."""
    pairs = zip(shard.ids, shard.paths, strict=True)
    away = {id_: path for id_, path in pairs if local_path(path, media_root) is None}
    if away:
        ids = [id_ for id_ in away if ObjectId.is_valid(id_)]
        known = set() if dataset is None else existing_ids(dataset, None, ids)
        for id_, path in away.items():
            if id_ not in known:
                raise nowhere(path)


def _check_roots(paths: Iterable[str], roots: dict[str, str], media_root: str) -> None:
    """Refuse two filesystems that the same folder would stand for; ``roots`` are those so far."""
    for path in paths:
        if not is_uri(path) or path.startswith(f"{_OWN}/"):
            continue
        root, (name, *_) = _split(path)
        if roots.setdefault(name, root) != root:
            raise DatasetError(
                f"the store names images of {roots[name]} and of {root}, and both would lie in "
                f"{media_root}/{name}; embed them into two stores, and give each a folder of its "
                "own"
            )
