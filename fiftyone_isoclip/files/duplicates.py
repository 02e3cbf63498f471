"""Groups of duplicate image files: byte-identical copies and near ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.copies import Contents
from fiftyone_isoclip.files.embeddings import Files, Progress, embed_files
from fiftyone_isoclip.files.groups import FileGroup, FileMember
from fiftyone_isoclip.files.keepers import DEFAULT_KEEPER_RULE, FILE_KEEPER_RULES, rank_keepers
from fiftyone_isoclip.files.reports import list_failures
from fiftyone_isoclip.index import (
    DEFAULT_SIMILARITY,
    CosineIndex,
    DuplicateGroup,
    Pairs,
    group_duplicates,
)
from fiftyone_isoclip.index.false_matches import check_asked, settle_similarity
from fiftyone_isoclip.index.pair_search import Progress as PairProgress
from fiftyone_isoclip.projector import Band


@dataclass(frozen=True, slots=True)
class FileDuplicates:
    """What was looked at (``images`` files, the failed ones included) and the groups found.

    ``recall`` is the share of all pairs that was found: 1 unless a smaller one was asked for, then
    measured, or None if it could not be. ``false_matches`` is, if the similarity was chosen by it,
    at most the share of all pairs of different files that are as similar; near-copies are among
    these.
    """

    images: int
    failed: dict[str, str]
    aliases: tuple[str, ...]
    groups: tuple[FileGroup, ...]
    model: str
    band: str
    similarity: float
    false_matches: float | None
    recall: float | None
    device: str

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, the failures as a list of path and reason."""
        return asdict(self) | {"failed": list_failures(self.failed)}


def find_file_duplicates(
    files: Files,
    clip: Clip,
    *,
    similarity: float | str = DEFAULT_SIMILARITY,
    false_matches: float | None = None,
    band: Band | None = None,
    prefer: str = DEFAULT_KEEPER_RULE,
    recall: float | None = None,
    progress: Progress | None = None,
    comparing: PairProgress | None = None,
) -> FileDuplicates:
    """Group files that show the same picture by IsoCLIP similarity, and copies by their bytes.

    ``similarity`` is the cosine from which two are duplicates, or "auto" for the lowest at which at
    most ``false_matches`` of all pairs of different files (1 in 10,000 if None) are that similar.
    ``band`` is the checkpoint's own by default; ``Band(0, 0)`` is plain CLIP. ``prefer`` is one of
    ``FILE_KEEPER_RULES``. Byte-identical files always share a group. ``recall`` is the share of the
    pairs that suffices, None for all. ``progress`` follows the embedding, ``comparing`` the search.

    Raises:
        IsoClipError: the similarity, the band or the rule is not a possible one, or the files are
            too few to tell so small a rate of false matches.
    """
    if prefer not in FILE_KEEPER_RULES:
        raise IsoClipError(
            f"files alone are not ranked by {prefer!r}; choose from {', '.join(FILE_KEEPER_RULES)}"
        )
    check_asked(similarity, false_matches)
    band = clip.image_band if band is None else band
    embedding_map = clip.isoclip(band)
    embedded = embed_files(files, clip, progress=progress)
    paths = embedded.embedded_paths
    contents = Contents.of(paths)
    # One vector a content: no rounding can part a copy from its original.
    vectors = embedding_map(embedded.embeddings[contents.first_rows])
    index = CosineIndex(vectors, copy=False)
    chosen, rates = settle_similarity(index.vectors, similarity, false_matches, comparing)
    pairs = index.pairs_above(chosen, recall=recall, progress=comparing)
    return FileDuplicates(
        images=len(embedded.paths),
        failed=embedded.failed,
        aliases=embedded.aliases,
        groups=tuple(_group(paths, contents, index, pairs, prefer)),
        model=clip.checkpoint.name,
        band=str(band),
        similarity=chosen,
        false_matches=None if rates is None else rates.rate_at(chosen).high,
        recall=pairs.recall,
        device=clip.device,
    )


def _group(
    paths: list[str], contents: Contents, index: CosineIndex, pairs: Pairs, rule: str
) -> list[FileGroup]:
    copied = [content for content, rows in enumerate(contents.rows) if len(rows) > 1]
    involved = sorted({*pairs.left.tolist(), *pairs.right.tolist(), *copied})
    ranked = _Ranked.by(
        rule, paths, [row for content in involved for row in contents.rows[content]]
    )
    prefer = np.full(len(contents.rows), len(paths))
    prefer[involved] = [
        min(ranked.places[row] for row in contents.rows[content]) for content in involved
    ]
    groups = list(group_duplicates(index, pairs, prefer=prefer))
    grouped = {content for group in groups for content in (group.keeper, *group.members.tolist())}
    nobody, nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    groups += [
        DuplicateGroup(content, nobody, nothing, 1.0)
        for content in copied
        if content not in grouped
    ]
    return [_name(group, contents, ranked) for group in sorted(groups, key=lambda g: g.keeper)]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The paths of some files, and of those that matter the place and the reason, by row."""

    paths: list[str]
    places: dict[int, int]
    reasons: dict[int, str]

    @classmethod
    def by(cls, rule: str, paths: list[str], rows: list[int]) -> _Ranked:
        ranking = rank_keepers([paths[row] for row in rows], rule)
        return cls(
            paths,
            dict(zip(rows, ranking.prefer.tolist(), strict=True)),
            dict(zip(rows, ranking.reasons, strict=True)),
        )


def _name(group: DuplicateGroup, contents: Contents, ranked: _Ranked) -> FileGroup:
    """Give a group of contents its files: the best of the keeper's copies stays."""
    keeper, *copies = sorted(contents.rows[group.keeper], key=ranked.places.__getitem__)
    members = [FileMember(ranked.paths[row], 1.0, "exact") for row in copies]
    for content, similarity in zip(group.members, group.similarities, strict=True):
        members += [
            FileMember(ranked.paths[row], float(similarity), "near")
            for row in contents.rows[content]
        ]
    return FileGroup(
        ranked.paths[keeper], ranked.reasons[keeper], float(group.least_similarity), tuple(members)
    )
