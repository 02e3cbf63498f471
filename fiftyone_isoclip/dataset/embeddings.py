"""Plain CLIP embeddings of images, computed once and kept on their samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from dataclasses import field as attribute
from threading import Event
from typing import Any, cast

import fiftyone as fo
import fiftyone.core.utils as fou

from fiftyone_isoclip.dataset.checkpoints import clip_of
from fiftyone_isoclip.dataset.fields import (
    DEFAULT_FIELD,
    Origin,
    claim_field,
    dataset_of,
    declare_field,
)
from fiftyone_isoclip.dataset.keeping import Keeping
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.model import IsoClipModel
from fiftyone_isoclip.dataset.speeds import remember_speed
from fiftyone_isoclip.dataset.targets import Fields, Target, list_targets
from fiftyone_isoclip.dataset.writing import Values, insist, write_all
from fiftyone_isoclip.encoder import Batch, Checkpoint, Clip, embed_images
from fiftyone_isoclip.errors import DatasetError

Progress = bool | Callable[[Any], None] | None
"""As in FiftyOne: show a bar or not, its own setting (None), or a function called with the bar."""


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What ``embed`` did: counts, the reason of each failure by id, and how long it took.

    The ids are those of samples, or of labels if patches were embedded.
    """

    field: str
    computed: int
    kept: int
    seconds: float
    device: str
    failed: dict[str, str] = attribute(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.computed} embeddings computed on {self.device} in {self.seconds:.1f} s, "
            f"{self.kept} kept, {len(self.failed)} failed (field {self.field!r})"
        )


@one_writer("patches_field", "field")
def embed(
    samples: Any,
    model: str | Checkpoint | Clip | IsoClipModel,
    field: str = DEFAULT_FIELD,
    *,
    patches_field: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    on_samples: bool | None = None,
    progress: Progress = True,
) -> EmbedReport:
    """Compute the plain CLIP embeddings of new and changed images and store them, batch by batch.

    Writes ``<field>`` (r numbers, float32, not normalised), ``<field>_source`` (what the vector
    was made from, to know what is current) and, where an image fails, ``<field>_error``. A run
    that was stopped goes on where it was; one bad image costs only its own vector. A copy of the
    vectors in files makes searches start faster; the files can also be the only place.

    Args:
        samples: a dataset or view of images; only the samples in the view are touched.
        model: a checkpoint name, or a loaded model.
        field: where the vectors go.
        patches_field: a Detections field; every box in it gets a vector of its own, at
            ``<patches_field>.detections.<field>``.
        batch_size: images at a time; None leaves it to the device.
        overwrite: compute everything again, also over vectors of another checkpoint.
        on_samples: False keeps the vectors in files alone, which keeps the database small; what
            FiftyOne itself does with vectors then finds none in the field. True brings them back.
            None leaves the field as it is, a new one with its vectors on the samples. Either way
            nothing that is up to date is computed again.
        progress: whether to show a bar, or a function called with it.

    Raises:
        DatasetError: the field has another type or holds vectors of another checkpoint, or the
            dataset went away.
        CheckpointError: the checkpoint cannot be loaded.
        StoreError: the vectors are kept in files, and these cannot be written.
    """
    started = time.perf_counter()
    dataset = dataset_of(samples)
    fields = Fields.of(dataset, field, patches_field)
    clip = clip_of(model)
    _check_plain(clip)
    keeping = insist(dataset, lambda: Keeping.choose(samples, fields, on_samples))

    def prepare() -> None:
        claim_field(samples, fields.embedding, Origin.of(clip), overwrite=overwrite)
        declare_field(dataset, fields.source, fo.StringField)
        declare_field(dataset, fields.error, fo.StringField)
        keeping.open()

    insist(dataset, prepare)
    targets = keeping.without_lost(insist(dataset, lambda: list_targets(samples, fields)))
    sources = {target.id: target.source_now(clip.fingerprint) for target in targets}
    stale = [t for t in targets if overwrite or not t.is_current(sources[t.id])]
    _check_reachable(stale, sources)
    paths, boxes = [target.path for target in stale], [target.box for target in stale]
    batches = embed_images(clip, paths, boxes=boxes, batch_size=batch_size)
    begun = time.perf_counter()
    # Closed here, because an error keeps it, and its threads, for as long as it is looked at.
    with closing(cast("Generator[Batch, None, None]", batches)):
        failed = _Desk(dataset, fields, keeping, sources, progress).fill(stale, batches)
    remember_speed(clip, len(stale) - len(failed), time.perf_counter() - begun)
    insist(dataset, lambda: keeping.settle([target.id for target in stale]))
    return EmbedReport(
        field=fields.embedding,
        computed=len(stale) - len(failed),
        kept=len(targets) - len(stale),
        seconds=time.perf_counter() - started,
        device=clip.device,
        failed=failed,
    )


def _check_plain(clip: Clip) -> None:
    if clip.band is not None:
        raise DatasetError(
            f"a model with band {clip.band} folded in gives IsoCLIP embeddings, and plain ones are "
            "stored because they serve every band; pass the checkpoint itself"
        )


def _check_reachable(stale: Sequence[Target], sources: Mapping[str, str | None]) -> None:
    """Refuse to clear every vector because a disk is not mounted."""
    if any(target.source for target in stale) and not any(sources.values()):
        raise DatasetError(
            f"none of the {len(sources)} files can be found, the first is {stale[0].path}; "
            "is their disk mounted? Nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where the batches of one run are stored; ``sources`` is what each vector is made from."""

    dataset: fo.Dataset
    fields: Fields
    keeping: Keeping
    sources: Mapping[str, str | None]
    progress: Progress

    def fill(self, wanted: Sequence[Target], batches: Iterable[Batch]) -> dict[str, str]:
        """Store batches as they come, each while the next one is computed; return the failures."""
        failed: dict[str, str] = {}
        progress = self.progress if wanted else False
        bar = fou.ProgressBar(total=len(wanted), progress=progress, iters_str="images")
        left = Event()
        with bar, ThreadPoolExecutor(1, thread_name_prefix="isoclip-save") as writer:
            saving: Future[None] | None = None
            try:
                for batch in batches:
                    if saving is not None:
                        saving.result()
                    saving = writer.submit(self.save, wanted, batch, left)
                    failed |= {wanted[row].id: why for row, why in batch.failures.items()}
                    bar.update(len(batch.rows) + len(batch.failures))
                if saving is not None:
                    saving.result()
            finally:
                left.set()
        return failed

    def save(self, wanted: Sequence[Target], batch: Batch, left: Event) -> None:
        """Store a batch, its vectors first: a source must never vouch for an older vector."""
        done = [wanted[row] for row in batch.rows]
        failed = {wanted[row].id: why for row, why in batch.failures.items()}
        nothing = dict.fromkeys(failed)
        healed = {target.id: None for target in done if target.error}
        vectors = {t.id: vector for t, vector in zip(done, batch.embeddings, strict=True)}
        sources = {target.id: self.sources[target.id] for target in done}
        owners = {wanted[row].id: wanted[row].sample_id for row in [*batch.rows, *batch.failures]}
        of = owners if self.fields.labels else None
        parts = [
            Values(self.fields.source, sources | nothing, fo.StringField, of),
            Values(self.fields.error, failed | healed, fo.StringField, of),
        ]
        if self.keeping.in_files:
            self.keeping.store(vectors, self.sources)
        else:
            parts.insert(0, Values(self.fields.embedding, vectors | nothing, fo.VectorField, of))
        write_all(self.dataset, *parts, left=left)
