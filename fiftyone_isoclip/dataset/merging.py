"""What a keeper takes over from its duplicates: tags, and labels that it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import fiftyone as fo

from fiftyone_isoclip.dataset.splits import SPLIT_TAGS
from fiftyone_isoclip.errors import DatasetError

Conflict = Literal["keeper", "duplicate"]
"""Whose label stays where a keeper and a duplicate differ."""

DUPLICATE_TAG = "duplicate"
KEEPER_TAG = "keeper"

_OWN = (DUPLICATE_TAG, KEEPER_TAG, *SPLIT_TAGS)
"""Tags that speak of one sample alone: a keeper must not enter a second split by a merge."""
"""What `resolve_duplicates` tags samples with; a keeper does not take these over."""

_OF_THE_WHOLE = (fo.Classification, fo.Classifications, fo.Regression)
"""Labels of the whole picture; others have places in it, which a near copy may frame otherwise."""


@dataclass(frozen=True, slots=True)
class Merged:
    """How many keepers were given something, and how many labels contradicted theirs."""

    merged: int = 0
    conflicts: int = 0


def merge_group(
    group: Iterable[Any], names: dict[str, str], conflict: Conflict = "keeper"
) -> Merged:
    """Give the keeper of a group the tags and labels of its duplicates.

    Tags are united, but for those that mark duplicates and keepers. A label field that the keeper
    has nothing in is taken from the first duplicate that has something; boxes, masks and points
    only from one with the same bytes, because a near copy may be cropped or turned. Lists of
    classes are united. Where both have something else, ``conflict`` decides.

    Args:
        group: the samples of one group, by rank.
        names: the fields of its run, by part.
        conflict: "keeper" or "duplicate".

    Raises:
        DatasetError: there is no such rule.
    """
    check_conflict(conflict)
    samples = list(group)
    keeper = next((s for s in samples if s[names["role"]] == "keeper"), None)
    going = [s for s in samples if s[names["role"]] != "keeper"]
    if keeper is None or not going:
        return Merged()
    given = [tag for s in going for tag in s.tags if tag not in _OWN]
    tags = list(dict.fromkeys([*keeper.tags, *given]))
    changed, conflicts = tags != list(keeper.tags), 0
    keeper.tags = tags
    kinds = {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": fo.Label}
    for name, kind in keeper._dataset.get_field_schema(**kinds).items():
        whole = issubclass(kind.document_type, _OF_THE_WHOLE)
        givers = going if whole else [s for s in going if s[names["kind"]] == "exact"]
        # What fills an empty field is the first duplicate's already.
        rule = conflict if _facts(keeper[name]) else "keeper"
        for giver in givers:
            label, against = _settle(keeper[name], giver[name], rule)
            conflicts += against
            if label is not keeper[name]:
                keeper[name], changed = label, True
            if against and rule == "duplicate":
                break  # the first duplicate's stays
    if changed:
        keeper.save()
    return Merged(int(changed), conflicts)


def check_conflict(conflict: str) -> None:
    """Refuse a rule that does not exist.

    Raises:
        DatasetError: it is neither "keeper" nor "duplicate".
    """
    if conflict not in ("keeper", "duplicate"):
        raise DatasetError(f"rule {conflict!r} was asked for; choose keeper or duplicate")


def _settle(mine: Any, other: Any, conflict: Conflict) -> tuple[Any, int]:
    """The label that stays, and whether the two contradicted each other."""
    if not _facts(other) or _facts(mine) == _facts(other):
        return mine, 0
    if not _facts(mine):
        return other.copy(), 0
    if isinstance(mine, fo.Classifications):
        known = {label.label for label in mine.classifications}
        more = [label.copy() for label in other.classifications if label.label not in known]
        united = fo.Classifications(classifications=[*mine.classifications, *more])
        return (united, 0) if more else (mine, 0)
    return (mine if conflict == "keeper" else other.copy()), 1


def _facts(label: Any) -> Any:
    """What a label says, without its ids."""
    if label is None:
        return None
    inner = getattr(label, "_LABEL_LIST_FIELD", None)
    if inner is not None:
        return [_facts(each) for each in label[inner] or []]
    if isinstance(label, fo.Classification):
        return label.label
    told = label.to_dict()
    return {name: value for name, value in told.items() if not name.startswith("_")}
