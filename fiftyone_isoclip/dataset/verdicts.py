"""What a person said about samples: these are not duplicates, and this one is to be kept.

It lies on the samples, in fields that belong to no run, so that every later search goes by it and
clones, exports and deletions take it along. Deleting the fields forgets it all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from itertools import combinations
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of, declare_field
from fiftyone_isoclip.dataset.locks import A_MOMENT, hold, hold_record
from fiftyone_isoclip.dataset.writing import write_values

VERDICTS_FIELD = "not_duplicates"
"""On each sample the ids of those that it is no duplicate of."""

KEEP_FIELD = "preferred_keeper"
"""True on samples that a person chose to keep of their group."""

Verdicts = set[frozenset[str]]
"""Pairs of sample ids that are no duplicates."""


def say_not_duplicates(samples: Any, *groups: Sequence[str]) -> None:
    """Remember that no two samples of a group are duplicates, whatever their similarity."""
    dataset = dataset_of(samples)
    with hold(dataset, VERDICTS_FIELD, patience=A_MOMENT):
        declare_field(dataset, VERDICTS_FIELD, fo.ListField, fo.StringField)
        held = _held(dataset, [id_ for ids in groups for id_ in ids])
        for ids in groups:
            for one, other in combinations([id_ for id_ in dict.fromkeys(ids) if id_ in held], 2):
                held[one].add(other)
                held[other].add(one)
        _write(dataset, held)


def forget_verdicts(samples: Any, ids: Sequence[str] | None = None) -> None:
    """Take back what was said of these samples among each other; None takes back everything."""
    dataset = dataset_of(samples)
    with hold(dataset, VERDICTS_FIELD, patience=A_MOMENT):
        if ids is None:
            there = [name for name in (VERDICTS_FIELD, KEEP_FIELD) if dataset.has_field(name)]
            if there:
                with hold_record(dataset):
                    dataset.delete_sample_fields(there)
        elif dataset.has_field(VERDICTS_FIELD):
            held = _held(dataset, ids)
            _write(dataset, {id_: others - set(ids) for id_, others in held.items()})


def read_verdicts(samples: Any) -> Verdicts:
    """The pairs of samples of a dataset that are said to be no duplicates."""
    dataset = dataset_of(samples)
    if not dataset.has_field(VERDICTS_FIELD):
        return set()
    said = dataset.match(F(VERDICTS_FIELD).length() > 0)
    rows = zip(*said.values(["id", VERDICTS_FIELD]), strict=True)
    return {frozenset((id_, other)) for id_, others in rows for other in others if other != id_}


def prefer_keeper(samples: Any, id_: str, others: Iterable[str]) -> None:
    """Remember that of these samples this one is to be kept."""
    dataset = dataset_of(samples)
    declare_field(dataset, KEEP_FIELD, fo.BooleanField)
    write_values(dataset, KEEP_FIELD, {**dict.fromkeys(others), id_: True})


def preferred_keepers(samples: Any) -> Set[str]:
    """The samples that a person chose to keep."""
    dataset = dataset_of(samples)
    if not dataset.has_field(KEEP_FIELD):
        return frozenset()
    return frozenset(dataset.match(F(KEEP_FIELD) == True).values("id"))  # noqa: E712


def _held(dataset: fo.Dataset, ids: Sequence[str]) -> dict[str, set[str]]:
    rows = zip(*dataset.select(list(ids)).values(["id", VERDICTS_FIELD]), strict=True)
    return {id_: set(others or ()) for id_, others in rows}


def _write(dataset: fo.Dataset, held: dict[str, set[str]]) -> None:
    values = {id_: sorted(others) or None for id_, others in held.items()}
    write_values(dataset, VERDICTS_FIELD, values)
