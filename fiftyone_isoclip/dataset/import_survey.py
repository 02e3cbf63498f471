"""Whether a store can be taken into a dataset: it is whole, and its images have a place here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

import fiftyone as fo
from bson import ObjectId

from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files.listing import is_uri

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import Shard, ShardStore

_OWN = "file://"


def survey(store: ShardStore, dataset: fo.Dataset | None, media_root: str | None) -> int:
    """Read all of a store before anything is written; -> how many images it has.

    Args:
        store: the store.
        dataset: what is to take it; None if that is still to be made.
        media_root: the folder that stands for other filesystems.

    Raises:
        StoreError: it is not whole.
        DatasetError: nobody said where its images are, or two filesystems would be one folder.
    """
    store.require_whole()
    roots: dict[str, str] = {}
    images = 0
    for shard in store:
        images += len(shard.ids)
        _check_paths(shard, dataset, media_root)
        if media_root is not None:
            _check_roots(shard.paths, roots, media_root)
    return images


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
        known = set() if dataset is None else _known(dataset, list(away))
        for id_, path in away.items():
            if id_ not in known:
                raise nowhere(path)


def _known(dataset: fo.Dataset, ids: Sequence[str]) -> set[str]:
    keys = [ObjectId(id_) for id_ in ids if ObjectId.is_valid(id_)]
    found = dataset._sample_collection.find({"_id": {"$in": keys}}, {"_id": True})
    return {str(each["_id"]) for each in found}


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
