"""What embeds: it knows a model and a store, and no engine that runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from fiftyone_isoclip.encoder import DEFAULT_DECODING, embed_images, load_clip
from fiftyone_isoclip.encoder.batches import Batch
from fiftyone_isoclip.encoder.origins import Source
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.files.listing import file_size, is_uri
from fiftyone_isoclip.shards.manifest import Recipe
from fiftyone_isoclip.shards.remote import RemoteImage
from fiftyone_isoclip.shards.shard import Shard
from fiftyone_isoclip.shards.store import ShardStore, open_store
from fiftyone_isoclip.shards.tasks import Task

_FETCHING = 16
"""Threads that read images where some have to be fetched: most of the time they wait."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which checkpoint is to run, where and how; as in ``load_clip``."""

    checkpoint: str
    device: str = "auto"
    precision: str = "auto"
    decoding: str = DEFAULT_DECODING


@dataclass(frozen=True, slots=True)
class Receipt:
    """A shard that is in its place: its name, how many images it has, and which of them failed."""

    name: str
    n: int
    reasons: dict[str, str]

    def dumps(self) -> str:
        """The receipt as text, for engines that carry tables."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Receipt:
        """Read what `dumps` wrote."""
        return cls(**json.loads(text))


class Embedder:
    """A loaded model that turns tasks into shards."""

    def __init__(self, encoding: Encoding) -> None:
        self._clip = load_clip(
            encoding.checkpoint,
            device=encoding.device,
            precision=encoding.precision,
            decoding=encoding.decoding,
        )
        self.recipe = Recipe(
            encoding.checkpoint,
            self._clip.fingerprint,
            self._clip.precision,
            encoding.decoding,
            self._clip.dim,
        )

    def embed(self, task: Task, dtype: str) -> Shard:
        """Embed the images of a task; one that cannot be read fails alone, with its reason.

        Raises:
            IsoClipError: a filesystem on which one lies does not answer.
        """
        remote = {path: RemoteImage(path) for path in set(task.paths) if is_uri(path)}
        # Before they are read: of a file that is replaced meanwhile, the size then tells so.
        sizes = {path: _size(path) for path in set(task.paths) - set(remote)}
        sources = [remote.get(path, path) for path in task.paths]
        read = self._read(sources, _FETCHING if remote else None)
        sizes |= {path: image.size for path, image in remote.items()}
        failures = dict(read.failures)
        with np.errstate(over="ignore", under="ignore"):  # what is lost is named below
            stored = read.embeddings.astype(dtype, copy=False)
        sound = np.isfinite(stored).all(axis=1) & stored.any(axis=1)
        lost = f"its embedding does not fit into {dtype}"
        failures |= {int(row): lost for row in read.rows[~sound]}
        found = tuple(sizes[path] for path in task.paths)
        return Shard(task.ids, task.paths, found, read.rows[sound], stored[sound], failures)

    def _read(self, sources: Sequence[Source], workers: int | None) -> Batch:
        batches = list(embed_images(self._clip, sources, workers=workers))
        none = np.empty((0, self.recipe.dim), np.float32)
        return Batch(
            np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in batches)]),
            np.concatenate([none, *(batch.embeddings for batch in batches)]),
            {row: why for batch in batches for row, why in batch.failures.items()},
        )


class Worker:
    """Puts the shard of each task it is given into a store; the same task twice leaves one shard.

    Raises:
        StoreError: the weights here are not those of the store.
    """

    def __init__(self, embedder: Embedder, store: ShardStore) -> None:
        if not embedder.recipe.fits(store.manifest.recipe):
            raise StoreError(
                f"{store.uri} is made by {store.manifest.recipe}, and a worker has loaded "
                f"{embedder.recipe}; give all machines the same weights"
            )
        self._embedder = embedder
        self._store = store

    @classmethod
    def open(cls, encoding: Encoding, uri: str) -> Worker:
        """Load the model and open the store, in a process that has neither."""
        store = open_store(uri)
        precision = store.manifest.recipe.precision
        return cls(Embedder(replace(encoding, precision=precision)), store)

    def __call__(self, task: Task) -> Receipt:
        """Embed the images of a task and store them, before anything is said of them."""
        shard = self._embedder.embed(task, self._store.manifest.dtype)
        self._store.write(shard)
        return Receipt(shard.name, len(shard.ids), shard.reasons)


def _size(path: str) -> int | None:
    try:
        return file_size(path)
    except (OSError, ValueError):  # why, reading it will say
        return None
