"""Groups of duplicate samples, found in the stored embeddings and written to fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.duplicate_search import DuplicateSearch
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.grouping import Grouping, Ranker
from fiftyone_isoclip.dataset.groups import (
    DEFAULT_KEY,
    EXACT_KEY,
    METHOD,
    DuplicateReport,
    field_names,
    group_columns,
    groups_view,
    report_of,
)
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import open_space
from fiftyone_isoclip.dataset.verdicts import preferred_keepers, read_verdicts
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files import DEFAULT_KEEPER_RULE, KEEPER_RULES, KeeperRanking, rank_keepers
from fiftyone_isoclip.index import DEFAULT_SIMILARITY, Pairs
from fiftyone_isoclip.index.false_matches import check_asked
from fiftyone_isoclip.index.pair_search import Progress
from fiftyone_isoclip.index.pairs import check_similarity
from fiftyone_isoclip.projector import Band

_TAG = "tag:"


@one_writer("key")
def find_duplicates(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    similarity: float | str = DEFAULT_SIMILARITY,
    false_matches: float | None = None,
    band: Band | str | None = None,
    prefer: str = DEFAULT_KEEPER_RULE,
    at_most: float | None = None,
    least: float | None = None,
    recall: float | None = None,
    key: str = DEFAULT_KEY,
    progress: Progress | None = None,
) -> DuplicateReport:
    """Group the samples that show the same picture, choose which of each group to keep, and why.

    Writes ``<key>_group``, ``_rank``, ``_role`` (keeper, duplicate, alias), ``_kind`` (exact,
    near, alias), ``_similarity`` (to the keeper), ``_least_similarity`` (between any two of the
    group), ``_bytes`` (that deleting a duplicate's file would free) and ``_reason`` (on the
    keeper), a saved view and a run, all named by the key; what an earlier search left under the
    same key is replaced. What a person said before is respected: see `say_not_duplicates` and
    `prefer_keeper`. No sample or file is deleted.

    Args:
        samples: a dataset or view with embeddings.
        field: the stored embeddings.
        similarity: the cosine, in (-1, 1], from which two images are duplicates; ``"auto"`` for the
            lowest from which false matches are as rare as ``false_matches`` says.
        false_matches: with "auto", the share of all pairs of different files that may be as similar
            as that, 1 in 10,000 if None. Near-copies are among these pairs: where they are many,
            the similarity is higher than it need be. Beyond 10,000 files pairs are drawn, and it
            is the upper bound of the share that is kept.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP.
        prefer: which of a group stays: largest, sharpest, earliest, most_labels (counted over the
            dataset's label fields) or ``tag:NAME`` (samples with that tag first).
        at_most: how many samples may go: a count from 1, or a share of the samples below 1. The
            similarity is raised until no more would, so that the most certain ones remain.
        least: remember the pairs from this similarity on as well, and what each similarity would
            give: another search under the same key that is no lower then needs no comparing. With
            "auto" None is .05 below what the similarity becomes.
        recall: None to find every pair; for many millions of images the share of the pairs that
            suffices, in (0, 1), which is found faster. What was reached is in the report.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        progress: called with (images compared, images in all); what it raises ends the search.

    Raises:
        DatasetError: there are no such embeddings, or the key's fields belong to something else.
        VectorError: a similarity is outside (-1, 1], or would give too many pairs; or there are
            too few images to tell so small a rate; or memory does not suffice.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    _check_rule(prefer)
    check_at_most(at_most)
    check_asked(similarity, false_matches)
    if least is not None:
        check_similarity(least)
    space = open_space(samples, field, band)
    space = space.without_changed(samples)
    ids = space.stored.ids
    paths = dict(zip(*samples.values(["id", "filepath"]), strict=True))
    grouping = _sorted_files(dataset, ids, [paths[id_] for id_ in ids], prefer)
    search = DuplicateSearch(
        dataset, key, similarity, false_matches, least, recall, at_most, progress
    )
    groups, details = search.run(grouping, space)
    run = SavedRun(
        key=key,
        method=METHOD,
        parameters={
            "field": field,
            "similarity": similarity,
            "false_matches": false_matches,
            "band": None if band is None else str(band),
            "prefer": prefer,
            "at_most": at_most,
            "least": least,
            "recall": recall,
        },
        checkpoint=space.origin.checkpoint,
        fingerprint=space.fingerprint,
        band=str(space.band),
        counts={
            "compared": len(ids),
            "skipped": len(space.stored.skipped),
            "groups": len(groups),
            "duplicates": sum(c.kind != "alias" for group in groups for c in group.copies),
        }
        | ({} if search.reached is None else {"recall": search.reached}),
        details=details,
    )
    save_run(samples, run, group_columns(key, groups), lambda: groups_view(dataset, key))
    return report_of(dataset, run, tuple(groups), space.stored.skipped)


@one_writer("key")
def find_exact_duplicates(
    samples: Any, *, prefer: str = DEFAULT_KEEPER_RULE, key: str = EXACT_KEY
) -> DuplicateReport:
    """Group the samples whose files hold the same bytes; needs no embeddings.

    Writes the same fields, saved view and run as `find_duplicates`, and deletes nothing.

    Args:
        samples: a dataset or view.
        prefer: which of a group stays; identical files differ by place, time and labels alone.
        key: the name of the result, ``[a-z][a-z0-9_]*``.

    Raises:
        DatasetError: the key's fields belong to something else.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    _check_rule(prefer)
    ids, paths = samples.values(["id", "filepath"])
    grouping = _sorted_files(dataset, ids, paths, prefer)
    nothing = np.zeros(0, np.int64)
    pairs = Pairs(len(grouping.contents.rows), nothing, nothing, nothing.astype(np.float32), 1.0)
    grouping.rank_rows(pairs)
    groups = grouping.exact_groups()
    run = SavedRun(
        key=key,
        method=METHOD,
        parameters={"exact": True, "similarity": 1.0, "prefer": prefer},
        checkpoint="",
        fingerprint="",
        band="",
        counts={
            "compared": len(ids),
            "skipped": 0,
            "groups": len(groups),
            "duplicates": sum(c.kind != "alias" for group in groups for c in group.copies),
            "recall": 1.0,
        },
    )
    save_run(samples, run, group_columns(key, groups), lambda: groups_view(dataset, key))
    return report_of(dataset, run, tuple(groups))


def _sorted_files(dataset: fo.Dataset, ids: list[str], paths: list[str], prefer: str) -> Grouping:
    said = read_verdicts(dataset), preferred_keepers(dataset)
    return Grouping(ids, paths, _ranker(dataset, prefer), *said)


def check_at_most(at_most: float | None) -> None:
    """Refuse what is neither a count nor a share.

    Raises:
        DatasetError: it is below 0, or above 1 and not whole.
    """
    if at_most is not None and not (0 < at_most < 1 or (at_most >= 1 and at_most % 1 == 0)):
        raise DatasetError(
            f"at most {at_most} samples were to go; give a count from 1, or a share below 1"
        )


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
