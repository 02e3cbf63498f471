"""Groups of duplicates that were found in a store, as a run of a dataset, to be reviewed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, check_key, need_origin
from fiftyone_isoclip.dataset.grouping import Grouping
from fiftyone_isoclip.dataset.groups import (
    METHOD,
    DuplicateReport,
    field_names,
    group_columns,
    groups_view,
    report_of,
)
from fiftyone_isoclip.dataset.import_stars import find_stars
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.dataset.vectors import Float32s
from fiftyone_isoclip.dataset.verdicts import preferred_keepers, read_verdicts
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files import DEFAULT_KEEPER_RULE, KEEPER_RULES
from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.index.probes import DEFAULT_RECALL

if TYPE_CHECKING:
    from fiftyone_isoclip.shards import StoreDuplicates
    from fiftyone_isoclip.shards.duplicates.found import Facts

IMPORTED_KEY = "store_duplicates"
"""The name of the run unless another is given; that of `find_duplicates` is another."""

IDS_AT_ONCE = 100_000
"""Samples that are asked for at once; the database takes no question of more than 16 MB."""


def import_duplicates(
    file: str | Path,
    dataset: fo.Dataset,
    *,
    field: str = DEFAULT_FIELD,
    key: str = IMPORTED_KEY,
    media_root: str | None = None,
) -> DuplicateReport:
    """Take the groups of duplicates of a store into the dataset that took the store.

    Writes what `find_duplicates` writes, with the file's groups, keepers and reasons: a run to
    review, resolve and delete. Copies with the same bytes are told from near ones where the files
    are here. What a person said before is respected; where that makes a copy the keeper, images
    that resemble the file's keeper alone are in no group.

    Args:
        file: what ``isoclip duplicates STORE --out FILE`` wrote.
        dataset: as `import_store` filled it.
        field: the embeddings that it took.
        key: the name of the result, ``[a-z][a-z0-9_]*``.
        media_root: as for `import_store`.

    Raises:
        StoreError: there is no such file, or it is something else.
        DatasetError: the field holds other embeddings, no image has a sample, or the key's fields
            belong to something else.
        CheckpointError: the checkpoint cannot be loaded.
    """
    from fiftyone_isoclip.shards import read_duplicates  # here, because it needs pyarrow

    return _write(dataset, key, read_duplicates(file), field, media_root, Path(file).name)


def check_duplicates(file: str | Path, store: str, dataset: str, key: str = IMPORTED_KEY) -> None:
    """Refuse, before a store is imported, groups that could not be taken once it is.

    Args:
        file: as for `import_duplicates`.
        store: as for `import_store`.
        dataset: the name of one, which need not be there yet.
        key: as for `import_duplicates`.

    Raises:
        StoreError: there is no such file or store, or it is something else.
        DatasetError: the groups were found in other embeddings, or the key is taken.
    """
    from fiftyone_isoclip.shards import open_store, read_duplicates

    facts, recipe = read_duplicates(file).facts, open_store(store).manifest.recipe
    if facts.fingerprint != recipe.fingerprint:
        raise DatasetError(
            f"the duplicates in {file} were found in embeddings of {facts.checkpoint} "
            f"({facts.fingerprint[:12]}), and {store} holds those of {recipe}; nothing was "
            "imported: give the file that `isoclip duplicates` made of this store"
        )
    check_key(key)
    if fo.dataset_exists(dataset):
        check_free(fo.load_dataset(dataset), key, METHOD, tuple(field_names(key).values()))


@one_writer("key")
def _write(
    dataset: fo.Dataset,
    key: str,
    found: StoreDuplicates,
    field: str,
    media_root: str | None,
    name: str,
) -> DuplicateReport:
    check_free(dataset, key, METHOD, tuple(field_names(key).values()))
    _check_origin(dataset, field, found.facts)
    stars = find_stars(dataset, field, found, media_root)
    said = read_verdicts(dataset), preferred_keepers(dataset)
    grouping = Grouping(stars.ids, stars.paths, stars.rank, *said)
    pairs = stars.pairs(grouping.contents.rows, found.facts.similarity)
    pairs = grouping.without_verdicts(pairs)
    grouping.rank_rows(pairs)
    space, rows = _read_rows(dataset, grouping.standing, field, found.facts.band)
    groups = tuple(grouping.groups(CosineIndex(rows, copy=False), pairs))
    run = _run_of(key, field, found.facts, space, name)
    counts = {
        "compared": found.facts.images,
        "skipped": len(stars.skipped),
        "groups": len(groups),
        "duplicates": sum(c.kind != "alias" for group in groups for c in group.copies),
    }
    reached = found.facts.recall
    run = replace(run, counts=counts | ({} if reached is None else {"recall": reached}))
    save_run(dataset, run, group_columns(key, groups), lambda: groups_view(dataset, key))
    return report_of(dataset, run, groups, stars.skipped)


def _check_origin(dataset: fo.Dataset, field: str, facts: Facts) -> None:
    origin = need_origin(dataset, field)
    if origin.fingerprint != facts.fingerprint or origin.band is not None:
        raise DatasetError(
            f"the duplicates were found in embeddings of {facts.checkpoint} "
            f"({facts.fingerprint[:12]}), and field {field!r} of dataset {dataset.name!r} holds "
            f"{origin}; import the store that was searched, and name its field"
        )


def _read_rows(
    dataset: fo.Dataset, ids: Sequence[str], field: str, band: str
) -> tuple[Space, Float32s]:
    """Read vectors as unit rows (n, k) to compare, in the order of their samples; -> their space.

    Raises:
        DatasetError: one cannot be compared.
    """
    blocks = []
    for start in range(0, max(len(ids), 1), IDS_AT_ONCE):
        asked = ids[start : start + IDS_AT_ONCE]
        space = open_space(dataset.select(asked), field, band)
        for id_, why in space.stored.skipped.items():
            raise DatasetError(
                f"the vector of sample {id_} cannot be compared: {why}; import again"
            )
        blocks.append(space.vectors[[space.stored.row_of[id_] for id_ in asked]])
    return space, np.concatenate(blocks)


def _run_of(key: str, field: str, facts: Facts, space: Space, name: str) -> SavedRun:
    """The run, such that doing it again searches the dataset itself for the same."""
    return SavedRun(
        key=key,
        method=METHOD,
        parameters={
            "field": field,
            "similarity": facts.similarity,
            "band": facts.band,
            "prefer": facts.prefer if facts.prefer in KEEPER_RULES else DEFAULT_KEEPER_RULE,
            "recall": None if facts.exact else DEFAULT_RECALL,
        },
        checkpoint=space.origin.checkpoint,
        fingerprint=space.fingerprint,
        band=str(space.band),
        details={"imported": {"file": name, **asdict(facts)}},
    )
