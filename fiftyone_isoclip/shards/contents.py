"""What lies in a store, every shard of it read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

GONE = "it was removed while it was to be read"
"""What is wrong with a shard that was listed, and is not there."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of looking at one shard: its ids and reasons, or what is wrong with it."""

    name: str
    ids: pa.Array
    reasons: Mapping[str, str]
    damage: str | None = None


@dataclass(frozen=True, eq=False)
class Contents:
    """What a store holds, and what is wrong with it.

    Attributes:
        looked: every shard, in the order of their names.
        expected: the shards that its last complete run left, and how many images each of them has.
        complete: whether the last run got to its end.
    """

    looked: Sequence[Looked]
    expected: Mapping[str, int]
    complete: bool

    @cached_property
    def whole(self) -> list[Looked]:
        """The shards that can be used."""
        return [each for each in self.looked if each.damage is None]

    @cached_property
    def shards(self) -> dict[str, int]:
        """The names of the whole shards, and how many images each of them has."""
        return {each.name: len(each.ids) for each in self.whole}

    @cached_property
    def ids(self) -> pa.ChunkedArray:
        """The ids of all whole shards, (n,)."""
        return pa.chunked_array([each.ids for each in self.whole], pa.string())

    @cached_property
    def reasons(self) -> dict[str, str]:
        """The ids without an embedding, and why."""
        return {id_: why for each in self.whole for id_, why in each.reasons.items()}

    @cached_property
    def repeated(self) -> dict[str, set[str]]:
        """The ids of a shard that another one before it holds already, by the name of the shard."""
        places = [pa.repeat(pa.scalar(n, pa.int32()), len(e.ids)) for n, e in enumerate(self.whole)]
        table = pa.table({"id": self.ids, "place": pa.chunked_array(places, pa.int32())})
        counted = table.group_by("id").aggregate([("place", "count")])
        twice = counted.filter(pc.greater(counted["place_count"], 1))["id"]
        held = table.filter(pc.is_in(table["id"], value_set=twice)).to_pydict()
        seen: set[str] = set()
        found: dict[str, set[str]] = {}
        for place, id_ in sorted(zip(held["place"], held["id"], strict=True)):
            if id_ in seen:
                found.setdefault(self.whole[place].name, set()).add(id_)
            seen.add(id_)
        return found

    @cached_property
    def missing(self) -> list[str]:
        """The shards that were there when the last run ended, and are not now."""
        return sorted(set(self.expected) - {each.name for each in self.looked})

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by the name of the shard."""
        damaged = {each.name: each.damage for each in self.looked if each.damage is not None}
        gone = dict.fromkeys(self.missing, "it is missing")
        twice = {
            name: f"{len(ids)} of its ids are in another shard too, such as {min(ids)!r}"
            for name, ids in self.repeated.items()
        }
        return damaged | gone | twice
