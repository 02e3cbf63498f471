"""Many plain embeddings as files: a manifest, and shards that come one by one and never change.

A shard counts if it is whole, which it proves itself; so a killed run leaves nothing to repair, and
nothing but the shards says how far it got. Reading needs no engine and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.shards.contents import GONE, Contents, Looked
from fiftyone_isoclip.shards.manifest import DTYPES, MANIFEST, Manifest, Recipe
from fiftyone_isoclip.shards.place import LOCK, Place, open_place
from fiftyone_isoclip.shards.shard import SHARD_NAME, DamagedShardError, Shard

SHARD_ROWS = 1024
"""Images in a shard: what a killed worker has to do again, and 2 MB of 512 float32."""

_FOLDER = "shards"
_READERS = 8


@dataclass(frozen=True, slots=True)
class ShardStore:
    """A store of shards at a place."""

    place: Place
    manifest: Manifest

    @property
    def uri(self) -> str:
        """What opens it again."""
        return self.place.uri

    def __iter__(self) -> Iterator[Shard]:
        """Every shard, one after the other, checked: those that the last complete run left.

        Raises:
            StoreError: one is damaged or missing.
        """
        for name in self.manifest.shards if self.manifest.complete else self.names():
            yield self.need(name)

    def require_whole(self) -> None:
        """Refuse a store that has other shards than a run left that got to its end.

        Only names are looked at; what is in the shards, reading them tells.

        Raises:
            StoreError: such a run has not ended, or shards are missing or were added.
        """
        if not self.manifest.complete:
            found = "the last run that wrote to it has not ended, or was stopped"
        elif missing := set(self.manifest.shards).difference(names := self.names()):
            found = f"{len(missing)} of its shards are missing, such as {min(missing)}"
        elif added := set(names).difference(self.manifest.shards):
            found = f"{len(added)} shards came after the last run that ended, such as {min(added)}"
        else:
            return
        raise StoreError(f"{self.uri} is not whole: {found}. {REMEDY}")

    def names(self) -> list[str]:
        """The names of the shards that are there, whole or not."""
        return [name for name in self.place.names(_FOLDER) if SHARD_NAME.fullmatch(name)]

    def read(self, name: str) -> Shard:
        """One shard, all of it checked.

        Raises:
            DamagedShardError: it is not what was written.
            FileNotFoundError: there is none of that name.
            StoreError: it cannot be read, or is of another recipe.
        """
        return Shard.loads(self.place.read(_path(name)), name, self.manifest)

    def need(self, name: str) -> Shard:
        """One shard without which nothing can be done, all of it checked.

        Raises:
            StoreError: it is damaged or missing, and what to do; or as `read`.
        """
        try:
            return self.read(name)
        except FileNotFoundError:
            found = "it is missing"
        except DamagedShardError as error:
            found = str(error)
        raise StoreError(f"{self.uri}: the shard {name} cannot be used: {found}. {REMEDY}")

    def write(self, shard: Shard) -> None:
        """Put a shard in its place.

        Raises:
            StoreError: it cannot be written.
        """
        self.place.write(_path(shard.name), shard.dumps(self.manifest))

    def look(self) -> Contents:
        """Read and check every shard.

        Raises:
            StoreError: one cannot be read at all, or is of another recipe.
        """
        with ThreadPoolExecutor(_READERS, thread_name_prefix="isoclip-shards") as readers:
            looked = list(readers.map(self.look_at, self.names()))
        return Contents(looked, self.manifest.shards, self.manifest.complete)

    def look_at(self, name: str) -> Looked:
        """Read and check one shard.

        Raises:
            StoreError: as `look`.
        """
        try:
            content = self.place.read(_path(name))
            shard = Shard.loads(content, name, self.manifest)
        except DamagedShardError as error:
            damage = str(error) if self._comes_again(name, content) else GONE
        except FileNotFoundError:
            damage = GONE
        else:
            return Looked(name, pa.array(shard.ids, pa.string()), shard.reasons)
        return Looked(name, pa.array([], pa.string()), {}, damage)

    def remove(self, name: str) -> None:
        """Remove a shard; nothing happens if there is none of that name.

        Raises:
            StoreError: it cannot be removed.
        """
        self.place.remove(_path(name))

    @contextmanager
    def one_writer(self) -> Iterator[None]:
        """Be the only one who writes to it, where the filesystem knows locks.

        Raises:
            StoreError: another process writes to it.
        """
        with self.place.one_writer():
            yield

    def note(self, *, complete: bool, shards: Mapping[str, int]) -> ShardStore:
        """Write down whether a run got to its end, and which shards there are; -> the store then.

        Raises:
            StoreError: it cannot be written.
        """
        return _noted(
            self.place,
            replace(self.manifest, complete=complete, shards=dict(sorted(shards.items()))),
        )

    def _comes_again(self, name: str, content: bytes) -> bool:
        """Whether a shard is still there; what is read of it only once is no reason to remove it.

        Raises:
            StoreError: something else came the second time, or only a part.
        """
        size = self.place.size(_path(name))
        try:
            again = self.place.read(_path(name))
        except FileNotFoundError:
            return False
        if size != len(content) or again != content:
            raise StoreError(
                f"{self.uri}: the shard {name} of {size} bytes does not come as it is stored: "
                f"{len(content)} bytes came, then {len(again)}; nothing was removed. Run this "
                "again once its disk or its connection is sound"
            )
        return True


REMEDY = "Run the same `isoclip embed` again: it keeps every whole shard and makes the others anew."


def open_store(uri: str) -> ShardStore:
    """Open a store that is there.

    Raises:
        StoreError: there is none, or its manifest is damaged.
    """
    place = open_place(uri)
    manifest = _read_manifest(place)
    if manifest is None:
        raise StoreError(f"{uri} is no store of embeddings: it has no {MANIFEST}")
    return ShardStore(place, manifest)


def continue_store(
    uri: str, recipe: Recipe, *, dtype: str | None = None, shard_rows: int | None = None
) -> ShardStore:
    """Open a store to add vectors of a recipe to it, or begin one.

    What is not asked for is as the store has it, or the default where there is none.

    Raises:
        StoreError: it holds something else than is asked for, the folder of a store to be begun
            holds anything else, or it cannot be read or written.
    """
    if dtype not in (None, *DTYPES):
        raise StoreError(f"vectors of {dtype} were asked for; choose {' or '.join(DTYPES)}")
    place = open_place(uri)
    found = _read_manifest(place)
    if found is None:
        _require_own(place)
        return _noted(place, Manifest(recipe, dtype or DTYPES[0], shard_rows or SHARD_ROWS))
    asked = Manifest(recipe, dtype or found.dtype, shard_rows or found.shard_rows)
    if not found.recipe.fits(recipe) or asked.dtype != found.dtype:
        raise StoreError(
            f"{uri} holds {found.dtype} of {found.recipe}, and {asked.dtype} of {recipe} were to "
            "be added; ask for the same, or name another store"
        )
    if asked.shard_rows != found.shard_rows:
        raise StoreError(
            f"{uri} has {found.shard_rows} images in a shard, and {shard_rows} were asked for; "
            "leave that to the store, or name another one"
        )
    return ShardStore(place, found)


def _require_own(place: Place) -> None:
    names = [name for name in place.names("") if not name.startswith(".")]
    if names and not {_FOLDER, LOCK}.intersection(names):
        raise StoreError(
            f"{place.uri} holds other things, such as {names[0]}, and a store is begun in a folder "
            f"of its own: name an empty or a new one, such as {place.uri}/store"
        )


def _path(name: str) -> str:
    return f"{_FOLDER}/{name}"


def _noted(place: Place, manifest: Manifest) -> ShardStore:
    place.write(MANIFEST, manifest.dumps())
    return ShardStore(place, manifest)


def _read_manifest(place: Place) -> Manifest | None:
    try:
        return Manifest.loads(place.read(MANIFEST), f"{place.uri}/{MANIFEST}")
    except FileNotFoundError:
        return None
