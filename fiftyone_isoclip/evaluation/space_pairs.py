"""Plain CLIP and a band on the same images: the pairs on which they disagree, told and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fiftyone_isoclip.evaluation.comparison import made_by
from fiftyone_isoclip.evaluation.disagreements import COUNT, NEAR, find_disagreements
from fiftyone_isoclip.evaluation.methods import PLAIN
from fiftyone_isoclip.evaluation.metrics.ranking import Told
from fiftyone_isoclip.evaluation.report import Page, Pictures
from fiftyone_isoclip.index.vectors import Float32s, Rows


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pair stands in a space: the neighbour's rank among all others, and the cosine."""

    rank: int
    similarity: float


@dataclass(frozen=True, slots=True)
class SpacePair:
    """A query and a neighbour, by name, that are near in one space and far in the other."""

    query: str
    neighbor: str
    plain: Standing
    isoclip: Standing

    @property
    def nearer_in_plain(self) -> bool:
        """Whether plain CLIP is the space in which it is near."""
        return self.plain.rank < self.isoclip.rank

    @property
    def factor(self) -> float:
        """How many times further down it stands where it is far."""
        ranks = (self.plain.rank, self.isoclip.rank)
        return max(ranks) / min(ranks)


@dataclass(frozen=True, eq=False, slots=True)
class Spaces:
    """The same images as unit rows in plain CLIP (n, r) and in a band (n, k), and their names."""

    checkpoint: str
    band: str
    plain: Float32s
    isoclip: Float32s
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class SpacePairs:
    """The pairs on which plain CLIP and a band disagree most, those first.

    They are among the ``near`` nearest neighbours of ``n_queries`` of ``n_images`` images in one of
    the spaces.
    """

    checkpoint: str
    band: str
    n_images: int
    n_queries: int
    near: int
    pairs: tuple[SpacePair, ...]

    @property
    def verdict(self) -> str:
        """What the first pair shows, and what no pair does."""
        if self.n_images < 2:
            return f"Two images are needed to compare spaces, and {self.n_images} can be read."
        asked = f"{self.n_queries:,} queries among {self.n_images:,} images"
        if not self.pairs:
            return (
                f"Plain CLIP and {self._isoclip} rank the {self.near} nearest neighbours of "
                f"{asked} alike. Measured with {made_by(self.checkpoint)}."
            )
        first = self.pairs[0]
        return (
            f"Of {asked}, plain CLIP and {self._isoclip} disagree most on a neighbour that is "
            f"number {first.plain.rank:,} in plain CLIP and number {first.isoclip.rank:,} in "
            f"{self._isoclip}. Such pairs show where the spaces differ, not which one is right. "
            f"Measured with {made_by(self.checkpoint)}."
        )

    @property
    def _isoclip(self) -> str:
        return f"IsoCLIP {self.band}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        pairs = [
            {**asdict(pair), "nearer_in": PLAIN if pair.nearer_in_plain else self._isoclip}
            for pair in self.pairs
        ]
        return {
            "verdict": self.verdict,
            "checkpoint": self.checkpoint,
            "band": self.band,
            "images": self.n_images,
            "queries": self.n_queries,
            "near": self.near,
            "pairs": pairs,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> SpacePairs:
        """Read what `to_json` gave."""
        pairs = (
            SpacePair(
                each["query"],
                each["neighbor"],
                Standing(**each["plain"]),
                Standing(**each["isoclip"]),
            )
            for each in told["pairs"]
        )
        counts = (told["images"], told["queries"], told["near"])
        return cls(told["checkpoint"], told["band"], *counts, tuple(pairs))

    def page(self, paths: Mapping[str, str] | None = None, **parameters: object) -> Page:
        """A page with the pictures; ``paths`` by name, where the names are none."""
        kinds = [
            (f"Near in {PLAIN}, far in {self._isoclip}", True),
            (f"Near in {self._isoclip}, far in {PLAIN}", False),
        ]
        note = (
            "Each row is a query and one of its neighbours, with the neighbour's rank among all "
            "other images and its cosine. Ranks are compared because cosines of two spaces are "
            "not; where the ratio of the two ranks is largest comes first."
        )
        parts = [
            Pictures(title, note, [self._row(pair, paths) for pair in pairs])
            for title, in_plain in kinds
            if (pairs := [pair for pair in self.pairs if pair.nearer_in_plain is in_plain])
        ]
        asked = {
            "checkpoint": made_by(self.checkpoint),
            "band": self.band,
            "images": self.n_images,
            "queries": self.n_queries,
            "neighbours looked at": self.near,
        }
        return Page(
            "Where plain CLIP and IsoCLIP disagree", self.verdict, parts, asked | parameters
        )

    def _row(
        self, pair: SpacePair, paths: Mapping[str, str] | None
    ) -> list[tuple[str | Path, str]]:
        query, neighbor = (
            name if paths is None else paths[name] for name in (pair.query, pair.neighbor)
        )
        told = "; ".join(
            f"{space} number {each.rank:,}, cosine {each.similarity:.3f}"
            for space, each in ((PLAIN, pair.plain), (self._isoclip, pair.isoclip))
        )
        return [(query, Path(query).name), (neighbor, f"{Path(neighbor).name}: {told}")]


def pair_spaces(
    spaces: Spaces, queries: Rows, *, count: int = COUNT, near: int = NEAR, told: Told = None
) -> SpacePairs:
    """Find up to twice ``count`` pairs on which the spaces disagree, as `find_disagreements` does.

    Raises:
        IsoClipError: ``count`` or ``near`` is out of its range.
    """
    found = find_disagreements(
        spaces.plain, spaces.isoclip, queries, count=count, near=near, told=told
    )
    names = spaces.names
    standings = [
        [Standing(int(rank), float(cosine)) for rank, cosine in zip(*each, strict=True)]
        for each in zip(found.ranks.T, found.similarities.T, strict=True)
    ]
    rows = zip(found.queries.tolist(), found.neighbors.tolist(), *standings, strict=True)
    pairs = tuple(SpacePair(names[a], names[b], plain, iso) for a, b, plain, iso in rows)
    n = len(spaces.plain)
    return SpacePairs(
        spaces.checkpoint, spaces.band, n, len(queries), min(near, max(0, n - 1)), pairs
    )
