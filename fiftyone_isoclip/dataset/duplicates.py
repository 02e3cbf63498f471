"""Groups of duplicate samples, found in the stored embeddings and written to fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.groups import (
    DEFAULT_KEY,
    METHOD,
    DuplicateReport,
    Kind,
    SampleCopy,
    SampleGroup,
    field_names,
    group_columns,
    groups_view,
    report_of,
)
from fiftyone_isoclip.dataset.runs import SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import open_space
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files import DEFAULT_KEEPER_RULE, KEEPER_RULES, KeeperRanking, rank_keepers
from fiftyone_isoclip.files.copies import Contents
from fiftyone_isoclip.files.listing import Identity, file_identity
from fiftyone_isoclip.index import (
    DEFAULT_SIMILARITY,
    CosineIndex,
    DuplicateGroup,
    Pairs,
    group_duplicates,
)
from fiftyone_isoclip.index.pair_search import Progress
from fiftyone_isoclip.projector import Band

_TAG = "tag:"


def find_duplicates(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    similarity: float = DEFAULT_SIMILARITY,
    band: Band | str | None = None,
    prefer: str = DEFAULT_KEEPER_RULE,
    recall: float | None = None,
    key: str = DEFAULT_KEY,
    progress: Progress | None = None,
) -> DuplicateReport:
    """Group the samples that show the same picture, choose which of each group to keep, and why.

    Writes ``<key>_group``, ``_rank``, ``_role`` (keeper, duplicate, alias), ``_kind`` (exact,
    near, alias), ``_similarity`` (to the keeper), ``_least_similarity`` (between any two of the
    group) and ``_reason`` (on the keeper), a saved view and a run, all named by the key; what an
    earlier search left under the same key is replaced. No sample or file is deleted.

    Args:
        samples: a dataset or view with embeddings.
        field: the stored embeddings.
        similarity: the cosine, in (-1, 1], from which two images are duplicates.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP.
        prefer: which of a group stays: largest, sharpest, earliest, most_labels (counted over the
            dataset's label fields) or ``tag:NAME`` (samples with that tag first).
        recall: None to find every pair; for many millions of images the share of the pairs that
            suffices, in (0, 1), which is found faster. What was reached is in the report.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        progress: called with (images compared, images in all); what it raises ends the search.

    Raises:
        DatasetError: there are no such embeddings, or the key's fields belong to something else.
        VectorError: the similarity is outside (-1, 1], or would give too many pairs; or memory
            does not suffice.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    _check_rule(prefer)
    space = open_space(samples, field, band)
    space = space.without_changed(samples)
    ids = space.stored.ids
    paths = dict(zip(*samples.values(["id", "filepath"]), strict=True))
    search = _Search(ids, [paths[id_] for id_ in ids], _ranker(dataset, prefer))

    def find(index: CosineIndex) -> Pairs:
        return index.pairs_above(similarity, recall=recall, progress=progress)

    groups = tuple(search.groups(space.vectors, find))
    run = SavedRun(
        key=key,
        method=METHOD,
        parameters={
            "field": field,
            "similarity": similarity,
            "prefer": prefer,
            "recall": recall,
        },
        checkpoint=space.origin.checkpoint,
        fingerprint=space.origin.fingerprint,
        band=str(space.band),
        counts={
            "compared": len(ids),
            "skipped": len(space.stored.skipped),
            "groups": len(groups),
            "duplicates": sum(c.kind != "alias" for group in groups for c in group.copies),
        }
        | ({} if search.recall is None else {"recall": search.recall}),
    )
    save_run(samples, run, group_columns(key, groups), lambda: groups_view(dataset, key))
    return report_of(dataset, run, groups, space.stored.skipped)


Ranker = Callable[[Sequence[str], Sequence[str]], KeeperRanking]
"""From ids and paths to which of them is the best keeper."""


@dataclass(slots=True)
class _Search:
    """The samples that are compared, by row, and what has been learnt about them."""

    ids: list[str]
    paths: list[str]
    rank: Ranker
    places: dict[int, int] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    staying: set[Identity] = field(default_factory=set)
    recall: float | None = 1.0

    def groups(
        self, vectors: npt.NDArray[np.float32], find: Callable[[CosineIndex], Pairs]
    ) -> list[SampleGroup]:
        """Find the groups among vectors (n, k)."""
        if not self.ids:
            return []
        contents = Contents.of(self.paths)
        # One vector a content: no rounding can part a copy from its original, and a thousand
        # copies of one file are one row and not half a million pairs.
        index = CosineIndex(vectors[contents.first_rows], copy=False)
        pairs = find(index)
        self.recall = pairs.recall
        copied = [content for content, rows in enumerate(contents.rows) if len(rows) > 1]
        involved = sorted({*pairs.left.tolist(), *pairs.right.tolist(), *copied})
        self._rank_rows([row for content in involved for row in contents.rows[content]])
        prefer = np.full(index.n, len(self.ids))
        prefer[involved] = [min(map(self.places.__getitem__, contents.rows[c])) for c in involved]
        near = list(group_duplicates(index, pairs, prefer=prefer))
        near += _lonely(copied, near)
        near.sort(key=lambda group: group.keeper)
        self._note_who_stays(near, contents)
        return [self._name(group, contents) for group in near]

    def _rank_rows(self, rows: list[int]) -> None:
        ranking = self.rank([self.ids[row] for row in rows], [self.paths[row] for row in rows])
        self.places = dict(zip(rows, ranking.prefer.tolist(), strict=True))
        self.reasons = dict(zip(rows, ranking.reasons, strict=True))

    def _by_rank(self, rows: Sequence[int]) -> list[int]:
        return sorted(rows, key=self.places.__getitem__)

    def _note_who_stays(self, groups: Sequence[DuplicateGroup], contents: Contents) -> None:
        """A file that stays under any sample is no copy under another, wherever that one is."""
        grouped = {row for group in groups for c in group.rows for row in contents.rows[c]}
        keepers = {self._by_rank(contents.rows[group.keeper])[0] for group in groups}
        stays = [row for row in range(len(self.ids)) if row in keepers or row not in grouped]
        self.staying = {file_identity(self.paths[row]) for row in stays}

    def _name(self, group: DuplicateGroup, contents: Contents) -> SampleGroup:
        keeper, *copies = self._by_rank(contents.rows[group.keeper])
        members = [self._copy(row, "exact", 1.0) for row in copies]
        for content, score in zip(group.members, group.similarities, strict=True):
            rows = self._by_rank(contents.rows[content])
            members += [self._copy(row, "near", float(score)) for row in rows]
        return SampleGroup(
            self.ids[keeper],
            self.paths[keeper],
            self.reasons[keeper],
            float(group.least_similarity),
            tuple(members),
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


def _check_rule(prefer: str) -> None:
    rules = [rule for rule in KEEPER_RULES if rule != "preferred_tag"]
    if prefer not in rules and not (prefer.startswith(_TAG) and len(prefer) > len(_TAG)):
        raise DatasetError(
            f"{prefer!r} is no rule for keepers; choose from {', '.join(rules)} or tag:NAME"
        )


def _ranker(dataset: fo.Dataset, prefer: str) -> Ranker:
    def rank(ids: Sequence[str], paths: Sequence[str]) -> KeeperRanking:
        if prefer == "most_labels":
            return rank_keepers(paths, prefer, labels=_label_counts(dataset, ids))
        if prefer.startswith(_TAG):
            tag = prefer.removeprefix(_TAG)
            tags = dict(zip(*dataset.select(ids).values(["id", "tags"]), strict=True))
            tagged = [tag in (tags[id_] or ()) for id_ in ids]
            return rank_keepers(paths, "preferred_tag", tagged=tagged)
        return rank_keepers(paths, prefer)

    return rank


def _label_counts(dataset: fo.Dataset, ids: Sequence[str]) -> list[int]:
    """How many labels each of these samples has, over all label fields of the dataset."""
    counts = dict.fromkeys(ids, 0)
    schema = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Label)
    for name, label in schema.items():
        inner = getattr(label.document_type, "_LABEL_LIST_FIELD", None)
        many = F(f"{name}.{inner}").length() if inner else F(name).exists()
        for id_, count in zip(*dataset.select(ids).values(["id", many]), strict=True):
            counts[id_] += int(count or 0)
    return [counts[id_] for id_ in ids]
