"""The images of a store of shards, piece by piece: which samples are theirs, and what these get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from bson import ObjectId

from fiftyone_isoclip.dataset.import_survey import local_path
from fiftyone_isoclip.dataset.targets import ELSEWHERE, Fields, Target, list_targets, source_of

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import Shard

ROWS_AT_ONCE = 4096

OTHER_FILE = "its file has another size than the one that was embedded; embed() it here"


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """Some images of a store.

    Shapes: ``ids``, ``paths`` (on this machine, None if unknown) and ``sizes`` (n,). ``vectors``
    and ``reasons`` go by the row.
    """

    ids: tuple[str, ...]
    paths: tuple[str | None, ...]
    sizes: tuple[int | None, ...]
    vectors: Mapping[int, npt.NDArray[np.float32]]
    reasons: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Gift:
    """What a sample gets: a vector and what that was made from, or the reason why it gets none."""

    target: Target
    vector: npt.NDArray[np.float32] | None = None
    source: str | None = None
    reason: str | None = None


def pieces(shard: Shard, media_root: str | None) -> Iterator[Piece]:
    """Cut a shard into pieces that a database takes at once."""
    vectors = dict(zip(shard.rows.tolist(), shard.embeddings, strict=True))
    for start in range(0, len(shard.ids), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        rows = range(len(shard.ids))[block]
        yield Piece(
            shard.ids[block],
            tuple(local_path(path, media_root) for path in shard.paths[block]),
            shard.sizes[block],
            {n: vectors[row].astype(np.float32) for n, row in enumerate(rows) if row in vectors},
            {n: shard.failures[r] for n, r in enumerate(rows) if r in shard.failures},
        )


def find_targets(
    dataset: fo.Dataset, fields: Fields, ids: Sequence[str], paths: Sequence[str | None]
) -> list[list[Target]]:
    """The samples of each image: the one that has its id, else all that have its path."""
    keys = [ObjectId(id_) for id_ in ids if ObjectId.is_valid(id_)]
    known = [path for path in paths if path is not None]
    either = [{"_id": {"$in": keys}}, {"filepath": {"$in": known}}]
    found = list_targets(dataset.mongo([{"$match": {"$or": either}}]), fields)
    by_id = {target.id: target for target in found}
    by_path: dict[str | None, list[Target]] = {}
    for target in found:
        by_path.setdefault(target.path, []).append(target)
    return [
        [by_id[id_]] if id_ in by_id else by_path.get(path, [])
        for id_, path in zip(ids, paths, strict=True)
    ]


def choose_gift(piece: Piece, row: int, target: Target, fingerprint: str) -> Gift | None:
    """What a sample gets of an image of its own; None if it has that, or something better.

    A vector is taken if the file is as large as the one it was made from. Of a file that is not
    here, one that was read here stays, and one that another machine read gives way.
    """
    if row in piece.reasons:
        return None if target.source else Gift(target, reason=piece.reasons[row])
    now = target.source_now(fingerprint)
    if now is None and _was_read_here(target, fingerprint):
        return None
    theirs = replace(target, source=source_of(fingerprint, piece.sizes[row], ELSEWHERE))
    if not theirs.is_current(now):
        return None if target.source else Gift(target, reason=OTHER_FILE)
    source = now or theirs.source
    if target.is_current(source):
        return None
    return Gift(target, piece.vectors[row], source)


def _was_read_here(target: Target, fingerprint: str) -> bool:
    source = target.source or ELSEWHERE
    return source.startswith(fingerprint[:16]) and not source.endswith(ELSEWHERE)


def documents(
    dataset: fo.Dataset, fields: Fields, gifts: Sequence[Gift], *, in_files: bool
) -> list[dict[str, Any]]:
    """New samples with what they get: as `add_samples` writes them, which takes ten times as long.

    What a store embedded is an image, whatever its name ends in.
    """
    now = datetime.now(timezone.utc).replace(tzinfo=None)  # as FiftyOne writes it
    field = dataset.get_field(fields.embedding)
    made = []
    for gift in gifts:
        sample = fo.Sample(filepath=gift.target.path)
        document = dataset._make_dict(sample, created_at=now, last_modified_at=now)
        document |= {"_id": ObjectId(gift.target.id), "_media_type": "image"}
        held = {fields.source: gift.source, fields.error: gift.reason}
        if not in_files:
            held[fields.embedding] = field.to_mongo(gift.vector)
        made.append(document | {name: value for name, value in held.items() if value is not None})
    return made
