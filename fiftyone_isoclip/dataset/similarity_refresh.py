"""A similarity index brought up to date: its images embedded as they are now, then copied again."""

from __future__ import annotations

from dataclasses import dataclass

import fiftyone as fo

from fiftyone_isoclip.dataset.brain_runs import BrainRun, need_index
from fiftyone_isoclip.dataset.checkpoints import clip_for
from fiftyone_isoclip.dataset.embeddings import EmbedReport, Progress, embed
from fiftyone_isoclip.dataset.fields import dataset_of, read_origin
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.reruns import is_due
from fiftyone_isoclip.dataset.similarity_backends.copied import find_changed
from fiftyone_isoclip.dataset.similarity_backends.index import TableSimilarityIndex
from fiftyone_isoclip.dataset.similarity_field import embedding_path
from fiftyone_isoclip.dataset.staleness import Staleness
from fiftyone_isoclip.dataset.targets import Fields


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What was stale, which images were embedded (None: there was nothing to), and what is in."""

    key: str
    stale: Staleness
    embedded: EmbedReport | None
    vectors: int

    def __str__(self) -> str:
        n_embedded = 0 if self.embedded is None else self.embedded.computed
        return (
            f"index {self.key!r}: {self.stale}; {n_embedded} images embedded; "
            f"now {self.vectors} vectors"
        )


def find_index_staleness(dataset: fo.Dataset, index: BrainRun) -> Staleness:
    """What happened since its tables were filled to the field that an index is a copy of.

    The database is asked alone, once for each change of the dataset. An index by faiss reads its
    field itself whenever it is loaded, hence nothing is ever said of it.
    """
    if index.copied is None or index.field is None:
        return Staleness()
    return find_changed(dataset, index.field, index.patches_field, index.copied)


@one_writer("key")
def refresh_similarity(
    dataset: fo.Dataset, key: str, *, progress: Progress = None
) -> RefreshReport:
    """Bring an index up to date: embed what is new or changed, and read its field again.

    Args:
        dataset: of the index.
        key: the brain key that it was built under.
        progress: whether to show a bar while embedding, or a function called with it.

    Raises:
        DatasetError: there is no such index, its field was embedded with other weights since, or
            its database cannot be asked.
        CheckpointError: the field's checkpoint cannot be loaded.
    """
    index = need_index(dataset_of(dataset), key)
    stale = find_index_staleness(dataset, index)
    loaded = dataset.load_brain_results(key)
    in_tables = isinstance(loaded, TableSimilarityIndex)
    if in_tables:
        loaded.check_weights()
    embedded = _embed_due(dataset, index, progress)
    if in_tables:
        loaded.fill()
    loaded.reload()
    return RefreshReport(key, stale, embedded, loaded.total_index_size)


def _embed_due(dataset: fo.Dataset, index: BrainRun, progress: Progress) -> EmbedReport | None:
    """Embed what is new or changed, if the field says how."""
    field, patches_field = index.field, index.patches_field
    if field is None:
        return None
    origin = read_origin(dataset, embedding_path(dataset, field, patches_field))
    if origin is None or origin.band is not None:
        return None
    if not is_due(dataset, Fields.of(dataset, field, patches_field), origin.fingerprint):
        return None
    return embed(dataset, clip_for(origin), field, patches_field=patches_field, progress=progress)
