"""What a run takes out of a store, so that it is made again; a kill in between loses no vector.

The shard without some ids is written before the one with them is removed. Killed in between, the
store holds the others twice, which the next run mends.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from fiftyone_isoclip.shards.contents import GONE, Contents, Looked
from fiftyone_isoclip.shards.store import ShardStore

_WRITERS = 8


def mend(store: ShardStore, contents: Contents) -> Contents:
    """Remove damaged shards, and from shards the ids that another one holds; -> what is left.

    A damaged one is looked at once more before that: by now it may have been made anew.

    Raises:
        StoreError: as `ShardStore.look`, or the store cannot be written.
    """
    for each in contents.looked:
        if each.damage is not None and store.look_at(each.name).damage not in (None, GONE):
            store.remove(each.name)
    # From the last to the first, so that of two shards the one that others go by stays.
    for name, ids in sorted(contents.repeated.items(), reverse=True):
        _take_out(store, name, ids)
    return store.look()


def forget(
    store: ShardStore, contents: Contents, ids: AbstractSet[str]
) -> tuple[ShardStore, Contents]:
    """Take ids out of a sound store, and the reasons of those that failed; -> what is left.

    Raises:
        StoreError: it cannot be read or written.
    """
    held = {each.name: gone for each in contents.whole if (gone := ids & each.reasons.keys())}
    if not held:
        return store, contents
    others = [each for each in contents.whole if each.name not in held]
    # Said before anything goes: a kill must not leave a store that says it is whole.
    store = store.note(complete=False, shards={each.name: len(each.ids) for each in others})
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="isoclip-shards") as writers:
        rests = writers.map(lambda name: _take_out(store, name, held[name]), held)
        left = [*others, *(each for each in rests if each is not None)]
    left.sort(key=lambda each: each.name)
    return store, replace(contents, looked=left, expected=store.manifest.shards, complete=False)


def _take_out(store: ShardStore, name: str, ids: AbstractSet[str]) -> Looked | None:
    rest = store.need(name).without(ids)
    if rest.ids:
        store.write(rest)
    store.remove(name)
    return Looked(rest.name, pa.array(rest.ids, pa.string()), rest.reasons) if rest.ids else None
