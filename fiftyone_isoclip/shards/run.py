"""From images to a store that holds each exactly once, whatever ran before and was killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.shards.engines import check_engine
from fiftyone_isoclip.shards.mending import forget, mend
from fiftyone_isoclip.shards.store import ShardStore, continue_store
from fiftyone_isoclip.shards.tasks import Images
from fiftyone_isoclip.shards.worker import Encoding

if TYPE_CHECKING:
    from fiftyone_isoclip.shards.local import LocalEngine
    from fiftyone_isoclip.shards.ray_engine import RayEngine

_ATTEMPTS = 3
"""Rounds after which somebody else must be writing: one more than a dying run can spoil."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of the images that were given.

    Attributes:
        store: where they are.
        n: how many there are.
        before: how many of them were there already.
        reasons: the ids that have no embedding, and why.
        mended: what was wrong with the store before, by the name of the shard.
        retried: how many had failed before, and were tried again.
    """

    store: ShardStore
    n: int
    before: int
    reasons: dict[str, str]
    mended: dict[str, str]
    retried: int = 0


def embed_into_store(
    images: Images,
    uri: str,
    encoding: Encoding,
    *,
    engine: str = "local",
    workers: int | None = None,
    dtype: str | None = None,
    shard_rows: int | None = None,
    retry_failed: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> Embedded:
    """Embed images into a store, begun here or continued; what it holds by its id is left alone.

    Both engines write the same shards. ``workers`` is for the engine "ray". With ``retry_failed``
    those of the images that failed before are taken out of the store and tried again. ``progress``
    is told how many more images are in the store, those from before first.

    Raises:
        StoreError: the store holds something else, or cannot be read or written.
        IsoClipError: there is no such engine, it has no workers, or one of them gave up; what was
            stored stays.
    """
    with _open_engine(engine, encoding, workers) as running:
        store = continue_store(uri, running.recipe, dtype=dtype, shard_rows=shard_rows)
        with store.one_writer():
            return fill_store(store, images, running, progress, retry_failed=retry_failed)


def fill_store(
    store: ShardStore,
    images: Images,
    engine: LocalEngine | RayEngine,
    progress: Callable[[int], object] = lambda count: None,
    *,
    retry_failed: bool = False,
) -> Embedded:
    """Let an engine make what a store lacks of these images, and mend what is wrong with it.

    With ``retry_failed`` it lacks those that failed, too.

    Raises:
        StoreError: it cannot be read or written, or another process keeps writing to it.
        IsoClipError: a worker gave up; what was stored stays.
    """
    mended: dict[str, str] = {}
    before, again = None, set[str]()
    for _ in range(_ATTEMPTS):
        contents = store.look()
        if contents.problems:
            mended |= contents.problems
            contents = mend(store, contents)
        if retry_failed and before is None:
            again = set(images.among(contents.reasons))
            store, contents = forget(store, contents, again)
        shards, reasons = dict(contents.shards), dict(contents.reasons)
        tables = images.tasks(contents.ids, store.manifest.shard_rows)
        if before is None:
            before = len(images) - sum(table.num_rows for table in tables)
            progress(before)
        if tables:
            store = store.note(complete=False, shards=shards)
        for receipt in engine.run(store, tables):
            shards[receipt.name] = receipt.n
            reasons |= receipt.reasons
            progress(receipt.n)
        # A worker of an earlier run, killed later than its driver, may have stored something since.
        if store.names() == sorted(shards):
            store = store.note(complete=True, shards=shards)
            return Embedded(store, len(images), before, images.among(reasons), mended, len(again))
    raise StoreError(f"another process keeps writing to {store.uri}; run this again without it")


@contextmanager
def _open_engine(
    name: str, encoding: Encoding, workers: int | None
) -> Iterator[LocalEngine | RayEngine]:
    check_engine(name, workers)
    if name == "local":
        from fiftyone_isoclip.shards.local import LocalEngine

        yield LocalEngine(encoding)
        return
    from fiftyone_isoclip.shards.ray_engine import open_ray

    with open_ray(encoding, workers) as engine:
        yield engine
