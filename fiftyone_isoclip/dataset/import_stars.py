"""The groups of a file of duplicates, as samples: stars around the keepers that the file chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.import_rows import ROWS_AT_ONCE, find_targets
from fiftyone_isoclip.dataset.import_survey import local_path
from fiftyone_isoclip.dataset.targets import Fields, Target
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files import KeeperRanking
from fiftyone_isoclip.index import Pairs

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import StoreDuplicates

KEEPER = "keeper"
"""The role, in such a file, of the image that stays; its row comes first in its group."""

NO_SAMPLE = "it has no sample with an embedding of its file as it is"
NO_KEEPER = "the keeper of its group has no sample with an embedding of its file as it is"


@dataclass(slots=True)
class Stars:
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


def find_stars(
    dataset: fo.Dataset, field: str, found: StoreDuplicates, media_root: str | None
) -> Stars:
    """Find the samples of the images of all groups, those whose embedding is of their file.

    Raises:
        DatasetError: there is none.
    """
    stars, fields = Stars(), Fields(field)
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


def _is_usable(target: Target, fingerprint: str) -> bool:
    now = target.source_now(fingerprint)
    return target.source is not None and (now is None or target.is_current(now))
