"""From a dataset to a similarity index that the App and later sessions can search."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.brain as fob

from fiftyone_isoclip.dataset.embeddings import embed
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, check_key, dataset_of
from fiftyone_isoclip.dataset.locks import check_brain_key, one_writer
from fiftyone_isoclip.dataset.model import IsoClipModel, load_model
from fiftyone_isoclip.dataset.similarity import FaissSimilarityConfig
from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex
from fiftyone_isoclip.dataset.similarity_map import find_centre
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.index import Storage, check_storage


@one_writer("brain_key")
def build_similarity(
    samples: Any,
    model: str | IsoClipModel = "isoclip-demo",
    *,
    brain_key: str,
    field: str = DEFAULT_FIELD,
    patches_field: str | None = None,
    batch_size: int | None = None,
    storage: Storage = "float32",
) -> FaissSimilarityIndex:
    """Embed what is not embedded yet, and make an index of the field under a brain key.

    The index holds every vector of the field, also of samples outside a view; search a view of it
    with `view.sort_by_similarity(query, brain_key=...)`.

    Args:
        samples: a dataset or view; its new and changed images are embedded.
        model: a checkpoint name, or `load_model(name, band=...)` for a band of your own.
            A centred one compares from the centre that `fit_centre` stored with the field.
        brain_key: the name of the index: lower-case letters, digits and _, a letter first.
        field: where the plain embeddings are.
        patches_field: index the boxes of this Detections field instead of whole images.
        batch_size: images at a time while embedding; None leaves it to the device.
        storage: how the index holds its rows; "float16" takes half the memory, and similarities
            then err by up to 3e-4. The field is not changed.

    Raises:
        DatasetError: if the key cannot be used, another process is using it, or the field does
            not fit.
        CheckpointError: if the checkpoint cannot be loaded.
    """
    dataset = dataset_of(samples)
    check_key(brain_key)
    register()
    check_storage(storage)
    loaded = load_model(model) if isinstance(model, str) else model
    check_brain_key(dataset, brain_key)
    find_centre(dataset, loaded.band, field, patches_field)
    embed(samples, loaded, field, patches_field=patches_field, batch_size=batch_size)
    return _compute(dataset, loaded, brain_key, field, patches_field, storage)


def _compute(
    dataset: fo.Dataset,
    model: IsoClipModel,
    brain_key: str,
    field: str,
    patches_field: str | None,
    storage: Storage,
) -> FaissSimilarityIndex:
    try:
        index: FaissSimilarityIndex = fob.compute_similarity(
            dataset,
            patches_field=patches_field,
            embeddings=False,
            embeddings_field=field,
            brain_key=brain_key,
            model=model.zoo_name,
            model_kwargs=model.zoo_kwargs or None,
            backend=FaissSimilarityConfig,
            storage=storage,
        )
        index.prepare()
    except BaseException:
        # FiftyOne registers a run before it computes it, and would leave it without results.
        if dataset.has_brain_run(brain_key):
            dataset.delete_brain_run(brain_key)
        raise
    return index
