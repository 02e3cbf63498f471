"""The search for pairs of duplicate samples: at which similarity, kept or compared anew."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.grouping import Grouping
from fiftyone_isoclip.dataset.groups import SampleGroup
from fiftyone_isoclip.dataset.kept_pairs import KeptPairs, digest_of, keep_pairs, load_pairs
from fiftyone_isoclip.dataset.runs import list_runs
from fiftyone_isoclip.dataset.spaces import Space
from fiftyone_isoclip.dataset.thresholds import (
    draw_curve,
    draw_histogram,
    find_threshold,
    room_below,
)
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import CosineIndex, Pairs
from fiftyone_isoclip.index.false_matches import AUTO, FalseMatches, settle_similarity
from fiftyone_isoclip.index.pair_search import Progress


@dataclass(slots=True)
class DuplicateSearch:
    """What is asked of a search for pairs; see `find_duplicates`.

    ``similarity`` and ``reached`` are what came of it.
    """

    dataset: fo.Dataset
    key: str
    asked: float | str
    false_matches: float | None
    least: float | None
    recall: float | None
    at_most: float | None
    progress: Progress | None
    similarity: float = field(init=False)
    reached: float | None = 1.0

    def run(self, grouping: Grouping, space: Space) -> tuple[list[SampleGroup], dict[str, Any]]:
        """Find the groups among vectors, and what other similarities would give."""
        if not grouping.ids and self.asked != AUTO:
            return [], {}
        index = CosineIndex(space.vectors[grouping.contents.first_rows], copy=False)
        rates = self._settle(index)
        standing = grouping.standing
        kept = self._kept()
        # Reading every vector for a digest pays only where pairs are or will be kept.
        needed = kept is not None or self.least is not None
        digest = digest_of(standing, index.vectors) if needed else ""
        found = kept.pairs if kept is not None and kept.digest == digest else self._compare(index)
        self.reached = found.recall
        pairs = grouping.without_verdicts(found)
        grouping.rank_rows(pairs)
        if self.at_most is not None:
            self.similarity = find_threshold(grouping, pairs, self.similarity, self.at_most)
        groups = grouping.groups(index, pairs.at(self.similarity))
        details = self._details(rates)
        if self.least is None:
            return groups, details
        details |= {
            "least": found.least,
            "curve": draw_curve(grouping, pairs),
            "histogram": draw_histogram(index, grouping.sizes),
        }
        origin = (space.fingerprint, str(space.band))
        pairs_now = KeptPairs(np.array(standing), found, digest, *origin)
        return groups, details | {"pairs": keep_pairs(self.dataset, pairs_now)}

    def _settle(self, index: CosineIndex) -> FalseMatches | None:
        """Find the similarity to search at, and from where on to remember pairs."""
        asked = self.asked, self.false_matches
        self.similarity, rates = settle_similarity(index.vectors, *asked, self.progress)
        if rates is not None and self.least is None:
            self.least = room_below(self.similarity)
        return rates

    def _details(self, rates: FalseMatches | None) -> dict[str, Any]:
        """What became of what was asked, where it is not what was asked."""
        found: dict[str, Any] = {}
        if self.at_most is not None or rates is not None:
            found["similarity"] = self.similarity
        if rates is not None:
            counted = {"compared": rates.compared, "pairs": rates.pairs}
            found["false_matches"] = asdict(rates.rate_at(self.similarity)) | counted
        return found

    def _kept(self) -> KeptPairs | None:
        """The pairs that an earlier search under this key found, if they reach far enough."""
        runs = {run.key: run for run in list_runs(self.dataset)}
        if self.recall is not None or self.key not in runs:
            return None
        kept = load_pairs(self.dataset, runs[self.key].details.get("pairs"))
        if kept is None or kept.pairs.recall != 1.0:
            return None
        wanted = self.similarity
        # A least that gave too many pairs before would give too many again.
        if self.least not in (None, runs[self.key].parameters.get("least")):
            wanted = min(self.least, wanted)
        return kept if np.float32(kept.pairs.least) <= np.float32(wanted) else None

    def _compare(self, index: CosineIndex) -> Pairs:
        floors = [self.similarity]
        if self.least is not None and self.least < self.similarity:
            # So many look alike below the similarity that not all can be remembered? Then fewer.
            floors = [self.least, (self.least + self.similarity) / 2, self.similarity]
        for floor in floors[:-1]:
            try:
                return self._pairs(index, floor)
            except VectorError:
                continue
        return self._pairs(index, floors[-1])

    def _pairs(self, index: CosineIndex, similarity: float) -> Pairs:
        return index.pairs_above(similarity, recall=self.recall, progress=self.progress)
