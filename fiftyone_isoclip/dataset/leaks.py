"""Leaks: images that are in two splits, or nearly the same as one in another split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.crossing import Crossing
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.leak_report import (
    DEFAULT_KEY,
    METHOD,
    LeakReport,
    field_names,
    leaks_view,
    report_of,
)
from fiftyone_isoclip.dataset.leak_search import Search, other_side, own_side
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import Column, SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import open_space
from fiftyone_isoclip.dataset.splits import TAGS, read_splits
from fiftyone_isoclip.dataset.verdicts import read_verdicts
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.index.pair_search import Progress
from fiftyone_isoclip.projector import Band

_KINDS: dict[str, tuple[type[fo.Field], type[fo.Field] | None]] = {
    "with": (fo.ListField, fo.StringField),
    "partners": (fo.ListField, fo.StringField),
    "partner_splits": (fo.ListField, fo.StringField),
    "partner_similarities": (fo.ListField, fo.FloatField),
    "similarity": (fo.FloatField, None),
    "drop": (fo.BooleanField, None),
}
"""The fields that are not one text: their types, and those of a list's entries."""


@one_writer("key")
def find_leaks(
    samples: Any,
    *,
    splits: Sequence[str] | str | None = None,
    field: str = DEFAULT_FIELD,
    similarity: float = DEFAULT_SIMILARITY,
    band: Band | str | None = None,
    other: Any = None,
    drop: str | None = None,
    key: str = DEFAULT_KEY,
    progress: Progress | None = None,
) -> LeakReport:
    """Find every pair of images that are in different splits, and say which of them should go.

    Writes ``<key>_split``, ``_with`` (the splits it leaks into), ``_partner`` (the most similar
    sample in another split), ``_partner_path``, ``_similarity`` (to it), ``_partners`` (the
    nearest, at most 20), ``_partner_splits`` and ``_partner_similarities`` (of those) and
    ``_drop`` (whether it should go) on the samples that leak, a saved view and a run, all named by
    the key; what an earlier search left under the same key is replaced. Nothing is removed.

    A sample with the tags of two splits leaks by itself: it counts as one of the split that stays,
    has the others in ``_with`` and is no pair. Pairs that a person said are no duplicates are left
    out.

    Args:
        samples: a dataset or view with embeddings.
        splits: tags of samples, or the name of the field (text, or one classification) that holds
            the split; None for those of the tags train, val, validation and test that there are,
            else the field "split". Samples in no split are not compared. With ``other``, ``[]``
            makes all samples one split.
        field: the stored embeddings.
        similarity: the cosine, in (-1, 1], from which two images are a pair.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP.
        other: another dataset with embeddings of the same checkpoint, a view of one, or the name
            of one; or several in a mapping that names them. Each is one more split. Nothing is
            written there, and what leaks into it goes from here.
        drop: the split from which copies go before all others. None: train gives way to validation
            and that to test; with other names, larger splits give way to smaller ones.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        progress: called with (images compared, images in all); what it raises ends the search.

    Raises:
        DatasetError: there are no such embeddings or splits, the other dataset's embeddings are of
            another checkpoint, or the key's fields belong to something else.
        VectorError: the similarity is outside (-1, 1], or would give too many pairs; or memory
            does not suffice.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    others = _others(dataset, other)
    found = read_splits(samples, splits, alone=not others)
    _check_names(found.names, others)
    order = found.giving_way(drop)
    space = open_space(samples, field, band).without_changed(samples)
    own = own_side(samples, space, found, order)
    sides = [own, *(other_side(name, each, space) for name, each in others.items())]
    names = (*found.names, *others)
    search = Search(sides, names, (*order, *others))
    crossing = search.cross(similarity, read_verdicts(dataset), progress)
    in_two = {id_: held for id_, held in found.of.items() if len(held) > 1}
    columns = _columns(key, search, crossing, in_two)
    leaked, drops = columns[f"{key}_split"].values, columns[f"{key}_drop"].values
    run = SavedRun(
        key=key,
        method=METHOD,
        parameters={
            "splits": list(found.names) if found.by == TAGS else found.by or [],
            "field": field,
            "similarity": similarity,
            "other": {name: dataset_of(each).name for name, each in others.items()} or None,
            "drop": drop,
        },
        checkpoint=space.origin.checkpoint,
        fingerprint=space.fingerprint,
        band=str(space.band),
        counts={
            "compared": len(own.ids),
            "skipped": len(samples) - len(own.ids),
            "unsplit": len(samples) - len(found.of),
            "skipped_elsewhere": sum(len(side.skipped) for side in sides[1:]),
            "both": len(in_two),
            "pairs": int(crossing.pair_counts.sum()) // 2,
            "leaked": len(leaked),
            "drop": sum(drops.values()),
        },
        details={
            "splits": list(names),
            "sizes": np.bincount(search.split_of, minlength=len(names)).tolist(),
            "pair_counts": crossing.pair_counts.tolist(),
            "image_counts": crossing.row_counts.tolist(),
        },
    )
    save_run(samples, run, columns, lambda: leaks_view(dataset, key))
    return report_of(dataset, run, own.skipped)


def _others(dataset: fo.Dataset, other: Any) -> dict[str, Any]:
    """The other datasets by the names of their splits."""
    if other is None:
        return {}
    asked = other if isinstance(other, Mapping) else {None: other}
    others: dict[str, Any] = {}
    for name, given in asked.items():
        if isinstance(given, str) and not fo.dataset_exists(given):
            raise DatasetError(f"there is no dataset {given!r} to compare with")
        samples = fo.load_dataset(given) if isinstance(given, str) else given
        there = dataset_of(samples).name
        if there == dataset.name:
            raise DatasetError(
                f"{there!r} cannot be compared with itself; compare its parts by their splits"
            )
        others[there if name is None else name] = samples
    return others


def _check_names(splits: Sequence[str], others: Mapping[str, Any]) -> None:
    taken = [name for name in others if name in splits]
    if taken:
        raise DatasetError(
            f"the other dataset would be called {taken[0]!r} like a split; "
            "give it another name: other={'name': dataset}"
        )


def _columns(
    key: str, search: Search, crossing: Crossing, in_two: Mapping[str, Sequence[str]]
) -> dict[str, Column]:
    """The fields of the samples that leak."""
    values: dict[str, dict[str, Any]] = {part: {} for part in field_names(key)}
    dropped = crossing.dropped()
    for rows, partners in crossing.partners():
        nearest = partners[0]
        splits = [search.names[partner.split] for partner in partners]
        for row in rows:
            if row >= search.n_own:
                continue
            id_ = search.ids[row]
            values["split"][id_] = search.names[search.split_of[row]]
            values["with"][id_] = list(dict.fromkeys(splits))
            values["partner"][id_] = search.ids[nearest.row]
            values["partner_path"][id_] = search.paths[nearest.row]
            values["similarity"][id_] = nearest.similarity
            values["partners"][id_] = [search.ids[partner.row] for partner in partners]
            values["partner_splits"][id_] = splits
            values["partner_similarities"][id_] = [partner.similarity for partner in partners]
            values["drop"][id_] = row in dropped
    for row, id_ in enumerate(search.ids[: search.n_own]):
        if id_ in in_two:
            own = values["split"].setdefault(id_, search.names[search.split_of[row]])
            more = [name for name in in_two[id_] if name != own]
            values["with"][id_] = list(dict.fromkeys([*values["with"].get(id_, []), *more]))
            values["drop"].setdefault(id_, False)
            for part in ("partners", "partner_splits", "partner_similarities"):
                values[part].setdefault(id_, [])
    names = field_names(key)
    columns = {}
    for part, name in names.items():
        kind, of = _KINDS.get(part, (fo.StringField, None))
        columns[name] = Column(kind, values[part], of)
    return columns
