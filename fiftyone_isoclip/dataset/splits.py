"""Which split each sample is in, by its tags or by a field, and which split gives way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.fields import dataset_of, need_origin
from fiftyone_isoclip.errors import DatasetError

SPLIT_TAGS = ("train", "val", "validation", "test")
"""The usual tags, in the order in which splits give way: the test set stays as it is."""

SPLIT_FIELD = "split"
"""The field that is looked at where there are no such tags."""

MOST_SPLITS = 20
"""A field of more values is taken for something else."""

TAGS = "tags"
"""What splits that are tags were read from; no field can have this name."""

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of some samples.

    Attributes:
        names: of the splits, in the order to show them.
        of: the splits of each sample by id; samples in no split are missing.
        by: what they were read from: "tags", the path of a field, or "" for all in one split.
    """

    names: tuple[str, ...]
    of: Mapping[str, tuple[str, ...]]
    by: str

    @property
    def sizes(self) -> Counter[str]:
        """How many samples each split has."""
        return Counter(name for names in self.of.values() for name in names)

    def giving_way(self, drop: str | None = None) -> tuple[str, ...]:
        """The splits in the order in which they give way, the one that always stays at the end.

        Train gives way to validation and that to test; where another name is among them, larger
        splits give way to smaller ones. ``drop`` names the split to begin with.

        Raises:
            DatasetError: there is no such split.
        """
        if drop is not None and drop not in self.names:
            raise DatasetError(
                f"copies were to go from split {drop!r}; the splits are {_listed(self.names)}"
            )
        if set(self.names) <= set(SPLIT_TAGS):
            ordered = [name for name in SPLIT_TAGS if name in self.names]
        else:
            ordered = sorted(self.names, key=lambda name: -self.sizes[name])
        return tuple(sorted(ordered, key=lambda name: name != drop))


def read_splits(samples: Any, splits: Sequence[str] | str | None, *, alone: bool = True) -> Splits:
    """Read the splits from tags, from a field, or from where they usually are.

    Args:
        samples: a dataset or view.
        splits: tags; the name of a field of text or of one classification; None for the usual
            tags, else the field "split"; or no tags at all, for all samples as one split.
        alone: whether nothing else is compared with, so that one split would not do.

    Raises:
        DatasetError: there are no such tags or no such field, or there is only one split.
    """
    found = _found(samples, splits, alone=alone)
    if len(found.names) < (2 if alone else 1) or len(found.names) > MOST_SPLITS:
        raise DatasetError(
            f"{'two' if alone else 'one'} to {MOST_SPLITS} splits are compared, found "
            f"{len(found.names)}: {_listed(found.names)}; "
            "name the tags of the splits, or the field that holds them"
        )
    return found


def split_fields(dataset: fo.Dataset) -> list[str]:
    """The fields of a dataset that may say which split a sample is in."""
    texts = dataset.get_field_schema(ftype=fo.StringField)
    labels = dataset.get_field_schema(embedded_doc_type=fo.Classification)
    return [name for name in (*texts, *labels) if name != "filepath"]


def comparable_datasets(dataset: fo.Dataset, field: str) -> list[str]:
    """The other datasets that have embeddings of the same checkpoint in a field of this name."""
    origin = need_origin(dataset, field)
    same = {"name": field, "info.isoclip.fingerprint": origin.fingerprint}
    stored = fo.core.odm.get_db_conn().datasets
    found = stored.find({"sample_fields": {"$elemMatch": same}}, {"name": 1}).sort("name", 1)
    return [each["name"] for each in found if each["name"] != dataset.name]


def few_values(samples: Any, path: str) -> list[str] | None:
    """The values of one of the ``split_fields``, or None if they are too many to be splits."""
    field = dataset_of(samples).get_field(path)
    value = f"${path}" if isinstance(field, fo.StringField) else f"${path}.label"
    stages = [{"$group": {"_id": value}}, {"$limit": MOST_SPLITS + 2}]
    found = [each["_id"] for each in samples._aggregate(post_pipeline=stages)]
    values = sorted(each for each in found if each is not None)
    return values if len(values) <= MOST_SPLITS else None


def _found(samples: Any, splits: Sequence[str] | str | None, *, alone: bool) -> Splits:
    if isinstance(splits, str):
        return _by_field(samples, splits)
    if splits is not None and not len(splits):
        return _whole(samples)
    tags = samples.count_sample_tags()
    if splits is not None:
        lacking = [tag for tag in splits if tag not in tags]
        if lacking:
            raise DatasetError(
                f"no sample has the tag {_listed(lacking)}; the tags are {_listed(tags)}"
            )
        return _by_tags(samples, tuple(dict.fromkeys(splits)))
    usual = tuple(tag for tag in SPLIT_TAGS if tag in tags)
    if len(usual) > (1 if alone else 0):
        return _by_tags(samples, usual)
    dataset = dataset_of(samples)
    if SPLIT_FIELD in split_fields(dataset):
        return _by_field(samples, SPLIT_FIELD)
    if not alone:
        return _whole(samples)
    raise DatasetError(
        f"no two of the tags {_listed(SPLIT_TAGS)} and no field {SPLIT_FIELD!r} were found in "
        f"{dataset.name!r}; its tags are {_listed(tags)}. Name the tags of the splits, or the "
        "field that holds them"
    )


def _whole(samples: Any) -> Splits:
    name = dataset_of(samples).name
    return Splits((name,), dict.fromkeys(samples.values("id"), (name,)), "")


def _by_tags(samples: Any, names: tuple[str, ...]) -> Splits:
    tagged = samples.match_tags(list(names))
    rows = zip(*tagged.values(["id", "tags"]), strict=True)
    return Splits(names, {id_: tuple(n for n in names if n in tags) for id_, tags in rows}, TAGS)


def _by_field(samples: Any, path: str) -> Splits:
    dataset = dataset_of(samples)
    field = dataset.get_field(path)
    if isinstance(field, fo.EmbeddedDocumentField) and field.document_type is fo.Classification:
        values = samples.values(["id", f"{path}.label"])
    elif isinstance(field, fo.StringField):
        values = samples.values(["id", path])
    else:
        raise DatasetError(
            f"{path!r} must be a field of text or of one classification, found "
            f"{type(field).__name__ if field else 'no such field'}; such fields are "
            f"{_listed(split_fields(dataset))}. Tags are given as a list, even a single one"
        )
    of = {id_: (value,) for id_, value in zip(*values, strict=True) if value is not None}
    there = {value for (value,) in of.values()}
    usual = [name for name in SPLIT_TAGS if name in there]
    return Splits((*usual, *sorted(there.difference(usual))), of, path)


def _listed(names: Any) -> str:
    shown = [repr(name) for name in names]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more if shown else "none"
