"""Groups of duplicates that were found in a store, as a run of a dataset, to be reviewed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as attribute
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.grouping import Grouping
from fiftyone_isoclip.dataset.groups import (
    DEFAULT_KEY,
    METHOD,
    DuplicateReport,
    field_names,
    group_columns,
    groups_view,
    report_of,
)
from fiftyone_isoclip.dataset.import_rows import ROWS_AT_ONCE, find_targets
from fiftyone_isoclip.dataset.import_survey import local_path
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.dataset.targets import Fields, Target
from fiftyone_isoclip.dataset.vectors import Float32s
from fiftyone_isoclip.dataset.verdicts import preferred_keepers, read_verdicts
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files import DEFAULT_KEEPER_RULE, KEEPER_RULES, KeeperRanking
from fiftyone_isoclip.index import CosineIndex, Pairs
from fiftyone_isoclip.index.probes import DEFAULT_RECALL

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import StoreDuplicates
    from fiftyone_isoclip.shards.duplicates.found import Facts

KEEPER = "keeper"
"""The role, in such a file, of the image that stays; its row comes first in its group."""

IDS_AT_ONCE = 100_000
"""Samples that are asked for at once; the database takes no question of more than 16 MB."""

NO_SAMPLE = "it has no sample with an embedding of its file as it is"
NO_KEEPER = "the keeper of its group has no sample with an embedding of its file as it is"


def import_duplicates(
    file: str | Path,
    dataset: fo.Dataset,
    *,
    field: str = DEFAULT_FIELD,
    key: str = DEFAULT_KEY,
    media_root: str | None = None,
) -> DuplicateReport:
    """Take the groups of duplicates of a store into the dataset that took the store.

    Writes what `find_duplicates` writes, with the file's groups, keepers and reasons: a run to
    review, resolve and delete. Copies with the same bytes are told from near ones where the files
    are here. What a person said before is respected; where that makes a copy the keeper, images
    that resemble the file's keeper alone are in no group.

    Args:
        file: what ``isoclip duplicates STORE --out FILE`` wrote.
        dataset: as `import_store` filled it.
        field: the embeddings that it took.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        media_root: as for `import_store`.

    Raises:
        StoreError: there is no such file, or it is something else.
        DatasetError: the field holds other embeddings, no image has a sample, or the key's fields
            belong to something else.
        CheckpointError: the checkpoint cannot be loaded.
    """
    from fiftyone_isoclip.shards import read_duplicates  # here, because it needs pyarrow

    return _write(dataset, key, read_duplicates(file), field, media_root, Path(file).name)


@dataclass(slots=True)
class _Stars:
    """The samples (n) of a file's groups, and the row of each one's keeper with the cosine to it.

    ``reasons`` are those of the keepers, by sample; ``skipped`` the images that are left out.
    """

    ids: list[str] = attribute(default_factory=list)
    paths: list[str] = attribute(default_factory=list)
    keepers: list[int] = attribute(default_factory=list)
    similarity: list[float] = attribute(default_factory=list)
    reasons: dict[str, str] = attribute(default_factory=dict)
    skipped: dict[str, str] = attribute(default_factory=dict)
    heads: dict[int, int] = attribute(default_factory=dict)
    known: set[str] = attribute(default_factory=set)

    def add(self, row: Mapping[str, Any], owners: Sequence[Target]) -> None:
        """Add the samples of an image, whose keeper was added before."""
        if row["role"] == KEEPER and owners and owners[0].id not in self.known:
            self.heads[row["group"]] = len(self.ids)
            self.reasons[owners[0].id] = row["reason"]
        head = self.heads.get(row["group"])
        if head is None or not owners:
            self.skipped[row["id"]] = NO_KEEPER if owners else NO_SAMPLE
            return
        for owner in owners:
            if owner.id not in self.known:
                self.known.add(owner.id)
                self.ids.append(owner.id)
                self.paths.append(owner.path)
                self.keepers.append(head)
                self.similarity.append(1.0 if row["similarity"] is None else row["similarity"])

    def rank(self, ids: Sequence[str], paths: Sequence[str]) -> KeeperRanking:
        """The keepers of the file first."""
        later = np.array([id_ not in self.reasons for id_ in ids], np.int64)
        return KeeperRanking(later, [self.reasons.get(id_, "") for id_ in ids])

    def pairs(self, contents: Sequence[Sequence[int]], least: float) -> Pairs:
        """Each content with that of its keeper."""
        n, content_of = len(contents), np.empty(len(self.ids), np.int64)
        for content, rows in enumerate(contents):
            content_of[list(rows)] = content
        keepers = content_of[np.array(self.keepers, np.int64)]
        left, right = np.minimum(content_of, keepers), np.maximum(content_of, keepers)
        codes, first = np.unique(left * n + right, return_index=True)
        scores = np.array(self.similarity, np.float32)[first]
        pairs = Pairs(n, codes // max(n, 1), codes % max(n, 1), scores, least)
        return pairs.where(pairs.left != pairs.right)


@one_writer("key")
def _write(
    dataset: fo.Dataset,
    key: str,
    found: StoreDuplicates,
    field: str,
    media_root: str | None,
    name: str,
) -> DuplicateReport:
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    _check_origin(dataset, field, found.facts)
    stars = _find_stars(dataset, field, found, media_root)
    said = read_verdicts(dataset), preferred_keepers(dataset)
    grouping = Grouping(stars.ids, stars.paths, stars.rank, *said)
    pairs = stars.pairs(grouping.contents.rows, found.facts.similarity)
    pairs = grouping.without_verdicts(pairs)
    grouping.rank_rows(pairs)
    space, rows = _read_rows(dataset, grouping.standing, field, found.facts.band)
    groups = tuple(grouping.groups(CosineIndex(rows, copy=False), pairs))
    run = _run_of(key, field, found.facts, space, name)
    counts = {
        "compared": found.facts.images,
        "skipped": len(stars.skipped),
        "groups": len(groups),
        "duplicates": sum(c.kind != "alias" for group in groups for c in group.copies),
    }
    reached = found.facts.recall
    run = replace(run, counts=counts | ({} if reached is None else {"recall": reached}))
    save_run(dataset, run, group_columns(key, groups), lambda: groups_view(dataset, key))
    return report_of(dataset, run, groups, stars.skipped)


def _check_origin(dataset: fo.Dataset, field: str, facts: Facts) -> None:
    origin = need_origin(dataset, field)
    if origin.fingerprint != facts.fingerprint or origin.band is not None:
        raise DatasetError(
            f"the duplicates were found in embeddings of {facts.checkpoint} "
            f"({facts.fingerprint[:12]}), and field {field!r} of dataset {dataset.name!r} holds "
            f"{origin}; import the store that was searched, and name its field"
        )


def _find_stars(
    dataset: fo.Dataset, field: str, found: StoreDuplicates, media_root: str | None
) -> _Stars:
    """Find the samples of the images of all groups, those whose embedding is of their file."""
    stars, fields = _Stars(), Fields(field)
    fingerprint = found.facts.fingerprint
    for batch in found.rows.to_batches(max_chunksize=ROWS_AT_ONCE):
        rows = batch.to_pylist()
        paths = [local_path(row["path"], media_root) for row in rows]
        targets = find_targets(dataset, fields, [row["id"] for row in rows], paths)
        for row, owners in zip(rows, targets, strict=True):
            stars.add(row, [owner for owner in owners if _is_usable(owner, fingerprint)])
    if found.rows.num_rows and not stars.ids:
        raise DatasetError(
            f"none of the {found.rows.num_rows} images of the file has a sample with an embedding "
            f"in field {field!r} of dataset {dataset.name!r}; import the store that was searched"
        )
    return stars


def _read_rows(
    dataset: fo.Dataset, ids: Sequence[str], field: str, band: str
) -> tuple[Space, Float32s]:
    """Read vectors as unit rows (n, k) to compare, in the order of their samples; -> their space.

    Raises:
        DatasetError: one cannot be compared.
    """
    blocks = []
    for start in range(0, max(len(ids), 1), IDS_AT_ONCE):
        asked = ids[start : start + IDS_AT_ONCE]
        space = open_space(dataset.select(asked), field, band)
        for id_, why in space.stored.skipped.items():
            raise DatasetError(
                f"the vector of sample {id_} cannot be compared: {why}; import again"
            )
        blocks.append(space.vectors[[space.stored.row_of[id_] for id_ in asked]])
    return space, np.concatenate(blocks)


def _is_usable(target: Target, fingerprint: str) -> bool:
    now = target.source_now(fingerprint)
    return target.source is not None and (now is None or target.is_current(now))


def _run_of(key: str, field: str, facts: Facts, space: Space, name: str) -> SavedRun:
    """The run, such that doing it again searches the dataset itself for the same."""
    return SavedRun(
        key=key,
        method=METHOD,
        parameters={
            "field": field,
            "similarity": facts.similarity,
            "band": facts.band,
            "prefer": facts.prefer if facts.prefer in KEEPER_RULES else DEFAULT_KEEPER_RULE,
            "recall": None if facts.exact else DEFAULT_RECALL,
        },
        checkpoint=space.origin.checkpoint,
        fingerprint=space.fingerprint,
        band=str(space.band),
        details={"imported": {"file": name, **asdict(facts)}},
    )
