"""What two splits have in common: the table of counts, and one pair of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fiftyone_isoclip.errors import DatasetError


@dataclass(frozen=True, slots=True)
class LeakMatrix:
    """How much two splits have in common.

    ``pairs`` (s, s) is symmetric; ``images`` (s, s) are those of one split (first axis) that have
    a partner in another.
    """

    splits: tuple[str, ...]
    pairs: tuple[tuple[int, ...], ...]
    images: tuple[tuple[int, ...], ...]

    def pairs_of(self, one: str, other: str) -> int:
        """Pairs between two splits."""
        return self.pairs[self._place(one)][self._place(other)]

    def images_of(self, one: str, other: str) -> int:
        """Images of the one split that have a partner in the other."""
        return self.images[self._place(one)][self._place(other)]

    @property
    def n_pairs(self) -> int:
        """Pairs between any two splits."""
        return sum(map(sum, self.pairs)) // 2

    def _place(self, split: str) -> int:
        if split not in self.splits:
            raise DatasetError(f"there is no split {split!r}; the splits are {listed(self.splits)}")
        return self.splits.index(split)


@dataclass(frozen=True, slots=True)
class LeakSide:
    """One of two images that are in different splits; ``drop`` is whether it should go."""

    id: str
    path: str
    split: str
    drop: bool


@dataclass(frozen=True, slots=True)
class LeakPair:
    """Two images in different splits and their cosine."""

    one: LeakSide
    other: LeakSide
    similarity: float


def listed(names: Sequence[str]) -> str:
    """Names as a part of a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
