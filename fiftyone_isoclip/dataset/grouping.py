"""From pairs of rows to groups of samples: exact copies, aliases, keepers and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.groups import Kind, SampleCopy, SampleGroup
from fiftyone_isoclip.dataset.verdicts import Verdicts
from fiftyone_isoclip.files import KeeperRanking
from fiftyone_isoclip.files.copies import Contents
from fiftyone_isoclip.files.listing import Identity, file_identity
from fiftyone_isoclip.index import (
    CosineIndex,
    DuplicateGroup,
    Pairs,
    group_duplicates,
    join_keepers,
)

Ranker = Callable[[Sequence[str], Sequence[str]], KeeperRanking]
"""From ids and paths to which of them is the best keeper."""

BY_HAND = "chosen by hand"


@dataclass(slots=True)
class Grouping:
    """The samples that are compared, by row, and what has been learnt about them.

    ``contents`` sorts them by the bytes of their files; one vector stands for each content: no
    rounding can part a copy from its original, and a thousand copies of one file are one row and
    not half a million pairs. ``verdicts`` and ``chosen`` are what a person said before.
    """

    ids: list[str]
    paths: list[str]
    rank: Ranker
    verdicts: Verdicts
    chosen: Set[str]
    contents: Contents = field(init=False)
    places: dict[int, int] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    staying: set[Identity] = field(default_factory=set)
    prefer: npt.NDArray[np.int64] = field(init=False)
    apart: dict[str, set[str]] = field(init=False)
    heads: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the files by their bytes, and the verdicts by sample."""
        self.contents = Contents.of(self.paths)
        self.apart = {}
        for one, other in self.verdicts:
            self.apart.setdefault(one, set()).add(other)
            self.apart.setdefault(other, set()).add(one)
        self.prefer = np.full(len(self.contents.rows), len(self.ids))
        self.heads = self.sizes

    @property
    def standing(self) -> list[str]:
        """The sample that stands for each content."""
        return [self.ids[row] for row in self.contents.first_rows]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How many samples have each content."""
        return np.array([len(rows) for rows in self.contents.rows], np.int64)

    def without_verdicts(self, pairs: Pairs) -> Pairs:
        """Leave out the pairs of contents that a person said are different."""
        said = self._said_apart()
        if not said:
            return pairs
        codes = pairs.left * pairs.n + pairs.right
        apart = np.isin(codes, [left * pairs.n + right for left, right in said])
        return pairs.where(~apart)

    def rank_rows(self, pairs: Pairs) -> None:
        """Look at the files of contents that have a pair or a copy, to know the best keepers."""
        rows = self.contents.rows
        involved = sorted({*pairs.left.tolist(), *pairs.right.tolist(), *self._copied})
        files = [row for content in involved for row in rows[content]]
        ranking = self.rank([self.ids[row] for row in files], [self.paths[row] for row in files])
        order = np.argsort(ranking.prefer, kind="stable").tolist()
        order.sort(key=lambda place: self.ids[files[place]] not in self.chosen)
        self.places = {files[place]: number for number, place in enumerate(order)}
        self.reasons = {
            row: BY_HAND if self.ids[row] in self.chosen else reason
            for row, reason in zip(files, ranking.reasons, strict=True)
        }
        for content in involved:
            self.prefer[content] = min(self.places[row] for row in rows[content])
        self.heads = self._head_sizes()

    def count(self, pairs: Pairs) -> tuple[int, int]:
        """How many groups these pairs give, and of how many samples."""
        keepers, members = join_keepers(pairs, prefer=self.prefer)
        joined = np.zeros(len(self.prefer), np.bool_)
        joined[members] = True
        leading = (self.heads > 1) & ~joined
        leading[keepers] = True
        return int(leading.sum()), int(self.heads[leading].sum() + self.sizes[joined].sum())

    def groups(self, index: CosineIndex, pairs: Pairs) -> list[SampleGroup]:
        """Divide the samples that have a pair or a copy into groups."""
        near = list(group_duplicates(index, pairs, prefer=self.prefer))
        return self._named([*near, *_lonely(self._copied, near)])

    def exact_groups(self) -> list[SampleGroup]:
        """Divide the samples whose files hold the same bytes into groups."""
        return self._named(_lonely(self._copied, []))

    def _head_sizes(self) -> npt.NDArray[np.int64]:
        """How many samples of each content a group has that one of them leads."""
        sizes = self.sizes
        for content in self._copied:
            first, *others = self._by_rank(self.contents.rows[content])
            apart = self.apart.get(self.ids[first], set())
            sizes[content] -= sum(self.ids[row] in apart for row in others)
        return sizes

    @property
    def _copied(self) -> list[int]:
        return [content for content, rows in enumerate(self.contents.rows) if len(rows) > 1]

    def _named(self, groups: list[DuplicateGroup]) -> list[SampleGroup]:
        groups.sort(key=lambda group: group.keeper)
        self._note_who_stays(groups)
        named = [self._name(group) for group in groups]
        return [group for group in named if group.copies]

    def _said_apart(self) -> set[tuple[int, int]]:
        row_of = {id_: row for row, id_ in enumerate(self.ids)}
        content_of = {row: c for c, rows in enumerate(self.contents.rows) for row in rows}
        apart = set()
        for one, other in map(sorted, self.verdicts):
            if one in row_of and other in row_of:
                left, right = sorted((content_of[row_of[one]], content_of[row_of[other]]))
                if left != right:
                    apart.add((left, right))
        return apart

    def _by_rank(self, rows: Sequence[int]) -> list[int]:
        return sorted(rows, key=self.places.__getitem__)

    def _note_who_stays(self, groups: Sequence[DuplicateGroup]) -> None:
        """A file that stays under any sample is no copy under another, wherever that one is."""
        grouped = {row for group in groups for c in group.rows for row in self.contents.rows[c]}
        keepers = {self._by_rank(self.contents.rows[group.keeper])[0] for group in groups}
        stays = [row for row in range(len(self.ids)) if row in keepers or row not in grouped]
        self.staying = {file_identity(self.paths[row]) for row in stays}

    def _name(self, group: DuplicateGroup) -> SampleGroup:
        keeper, *copies = self._by_rank(self.contents.rows[group.keeper])
        apart = self.apart.get(self.ids[keeper], set())
        found: list[tuple[int, Kind, float]] = [(row, "exact", 1.0) for row in copies]
        for content, score in zip(group.members, group.similarities, strict=True):
            rows = self._by_rank(self.contents.rows[content])
            found += [(row, "near", float(score)) for row in rows]
        return SampleGroup(
            self.ids[keeper],
            self.paths[keeper],
            self.reasons[keeper],
            float(group.least_similarity),
            tuple(self._copy(*each) for each in found if self.ids[each[0]] not in apart),
        )

    def _copy(self, row: int, kind: Kind, similarity: float) -> SampleCopy:
        identity = file_identity(self.paths[row])
        if identity in self.staying:
            kind = "alias"
        self.staying.add(identity)  # a second sample of the same file would be counted twice
        return SampleCopy(self.ids[row], self.paths[row], kind, similarity)


def _lonely(copied: list[int], groups: Sequence[DuplicateGroup]) -> list[DuplicateGroup]:
    """Contents that several samples share and that resemble nothing else, as groups of one."""
    grouped = {row for group in groups for row in group.rows.tolist()}
    nobody, nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    return [DuplicateGroup(c, nobody, nothing, 1.0) for c in copied if c not in grouped]
