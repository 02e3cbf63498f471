"""Embeddings that many machines computed, taken from their store into a dataset."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import fiftyone as fo
import fiftyone.core.utils as fou

from fiftyone_isoclip.dataset.fields import (
    DEFAULT_FIELD,
    claim_field,
    declare_field,
    need_origin,
)
from fiftyone_isoclip.dataset.import_desk import Desk
from fiftyone_isoclip.dataset.import_rows import pieces
from fiftyone_isoclip.dataset.import_survey import check_field, note_recipe, origin_of, survey
from fiftyone_isoclip.dataset.keeping import Keeping
from fiftyone_isoclip.dataset.locks import hold, one_writer, told_if_away
from fiftyone_isoclip.dataset.targets import Fields
from fiftyone_isoclip.dataset.writing import insist
from fiftyone_isoclip.errors import DatasetError

if TYPE_CHECKING:  # no model is needed, and torch takes seconds
    from fiftyone_isoclip.dataset.embeddings import Progress
    from fiftyone_isoclip.shards import ShardStore

logger = logging.getLogger(__name__)

_COUNTED = ("embedded", "failed", "refused", "absent", "added", "written")

SAMPLES = "the samples of a store"
"""Held while samples are added, so that of two imports only one makes those that are missing."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What ``import_store`` did, and what the database holds of the store's images since.

    Attributes:
        dataset: its name.
        field: where the vectors are.
        images: how many the store has; all of them have a sample.
        embedded: how many of them have a vector.
        failed: the others, whose samples say why in ``<field>_error``.
        refused: how many of these failed because their file here is another one.
        absent: how many have no file on this machine, where FiftyOne would show it.
        added: samples that were made.
        written: vectors that were written, to samples or files.
        seconds: how long it took.
    """

    dataset: str
    field: str
    images: int
    embedded: int
    failed: int
    refused: int
    absent: int
    added: int
    written: int
    seconds: float

    def __str__(self) -> str:
        away = f"; of {self.absent} the file is not on this machine" if self.absent else ""
        return (
            f"{self.images} images of the store are in dataset {self.dataset!r} (field "
            f"{self.field!r}): {self.embedded} with their embedding, {self.failed} with the reason "
            f"why not; {self.added} samples and {self.written} embeddings are new, in "
            f"{self.seconds:.1f} s{away}"
        )


def import_store(
    store: str,
    dataset: str | fo.Dataset,
    *,
    field: str = DEFAULT_FIELD,
    on_samples: bool | None = None,
    media_root: str | None = None,
    progress: Progress = None,
) -> ImportReport:
    """Take the embeddings of a store of shards into a dataset, a piece at a time.

    An image belongs to the sample that has its id, else to all that have its path; one that has
    none gets a sample. Writes ``<field>``, ``<field>_source`` and, for an image without embedding,
    ``<field>_error``, as `embed` does, and counts at the end what the database holds. A vector is
    not taken for a file whose size is another one here; a file that is not here keeps it. An import
    that was stopped goes on where it was: run it again, also after the store grew.

    Args:
        store: a folder or URI that ``isoclip embed --store`` filled.
        dataset: a dataset, or the name of one, which is made (persistent) if there is none.
        field: where the vectors go.
        on_samples: as in `embed`.
        media_root: the folder that stands for the other filesystems of paths such as
            ``s3://BUCKET/NAME``, which is then ``FOLDER/BUCKET/NAME``.
        progress: whether to show a bar, or a function called with it.

    Raises:
        StoreError: the store is damaged or not complete; nothing was written. Or the vectors are
            kept in files, and these cannot be written.
        DatasetError: the field holds something else, images lie on other filesystems and there is
            no ``media_root``, or the database lacks something at the end.
    """
    from fiftyone_isoclip.shards import open_store  # here, because it needs pyarrow

    started = time.perf_counter()
    opened = open_store(store)
    with told_if_away(str(getattr(dataset, "name", dataset))):
        into = _find(dataset)
        if into is not None:
            check_field(into, field, opened.manifest.recipe)
        images = survey(opened, into, media_root)
        if into is None:
            into = _make(str(dataset))
    _tell_if_passing(into)
    counts = _fill(into, field, opened, on_samples, media_root, images, progress)
    return ImportReport(
        dataset=into.name,
        field=field,
        images=images,
        seconds=time.perf_counter() - started,
        **{name: counts[name] for name in _COUNTED},
    )


def _find(dataset: str | fo.Dataset) -> fo.Dataset | None:
    if isinstance(dataset, str):
        return fo.load_dataset(dataset) if fo.dataset_exists(dataset) else None
    if not isinstance(dataset, fo.Dataset):
        raise DatasetError(
            f"a dataset or the name of one is needed, found {type(dataset).__name__}: images are "
            "imported into whole datasets"
        )
    return dataset


def _tell_if_passing(dataset: fo.Dataset) -> None:
    if not dataset.persistent:
        logger.warning(
            "Dataset %r is not persistent: FiftyOne deletes it when its database stops, and what "
            "is imported now with it; dataset.persistent = True keeps it",
            dataset.name,
        )


def _make(name: str) -> fo.Dataset:
    try:
        return fo.Dataset(name, persistent=True)
    except ValueError as error:
        raise DatasetError(f"dataset {name!r} cannot be made: {error}") from error


@one_writer("field")
def _fill(
    dataset: fo.Dataset,
    field: str,
    store: ShardStore,
    on_samples: bool | None,
    media_root: str | None,
    images: int,
    progress: Progress,
) -> Counter[str]:
    """Write what the dataset lacks, and count what it has then."""
    fields, recipe = Fields.of(dataset, field, None), store.manifest.recipe
    keeping = insist(dataset, lambda: Keeping.choose(dataset, fields, on_samples))

    def prepare() -> None:
        check_field(dataset, field, recipe)  # of two imports at once the first decides
        claim_field(dataset, field, origin_of(recipe), overwrite=False)
        note_recipe(dataset, field, recipe)
        declare_field(dataset, fields.source, fo.StringField)
        declare_field(dataset, fields.error, fo.StringField)
        keeping.open()

    counts: Counter[str] = Counter()
    bar = fou.ProgressBar(total=images, progress=progress, iters_str="images")
    with hold(dataset, SAMPLES), bar:
        insist(dataset, prepare)
        desk = Desk(dataset, fields, need_origin(dataset, field), keeping.in_files)
        for shard in store:
            for piece in pieces(shard, media_root):
                counts += desk.take(piece)
                bar.update(len(piece.ids))
    if keeping.in_files != keeping.in_files_at_last:
        insist(dataset, lambda: keeping.settle(()))
    return counts + _count(desk, store, media_root)


def _count(desk: Desk, store: ShardStore, media_root: str | None) -> Counter[str]:
    """What the database holds of the images of a store.

    Raises:
        DatasetError: of some it has neither a vector nor the reason why not.
    """
    counts: Counter[str] = Counter()
    n_missing, first = 0, ""
    for shard in store:
        for piece in pieces(shard, media_root):
            found, missing = desk.count(piece)
            counts += found
            # Not Path.exists: that raises where a folder may not be entered.
            here = (path is None or os.path.exists(path) for path in piece.paths)  # noqa: PTH110
            counts["absent"] += sum(not each for each in here)
            n_missing += len(missing)
            first = first or next(iter(missing), "")
    if n_missing:
        raise DatasetError(
            f"of the {sum(store.manifest.shards.values())} images of {store.uri}, dataset "
            f"{desk.dataset.name!r} has {counts['embedded']} with a vector and "
            f"{counts['failed']} with the reason why not, and of {n_missing} neither, such as "
            f"{first}: something else changed it meanwhile; import again"
        )
    return counts
