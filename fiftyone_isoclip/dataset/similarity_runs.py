"""From a dataset to a similarity index that the App and later sessions can search."""

from __future__ import annotations

import logging
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob

from fiftyone_isoclip.dataset.embeddings import embed
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, check_key, dataset_of
from fiftyone_isoclip.dataset.locks import check_brain_key, one_writer
from fiftyone_isoclip.dataset.model import IsoClipModel, load_model
from fiftyone_isoclip.dataset.similarity import FaissSimilarityConfig
from fiftyone_isoclip.dataset.similarity_backends.backend import TableSimilarity, open_database
from fiftyone_isoclip.dataset.similarity_backends.config import check_band
from fiftyone_isoclip.dataset.similarity_backends.index import TableSimilarityIndex
from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex
from fiftyone_isoclip.dataset.similarity_map import find_centre
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.errors import DatasetError, IsoClipError
from fiftyone_isoclip.index import Storage, check_storage
from fiftyone_isoclip.projector import Band

logger = logging.getLogger(__name__)


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
    backend: str = "faiss",
    uri: str | None = None,
    text: bool = True,
) -> FaissSimilarityIndex | TableSimilarityIndex:
    """Embed what is not embedded yet, and make an index of the field under a brain key.

    The index holds every vector of the field, also of samples outside a view; search a view of it
    with `view.sort_by_similarity(query, brain_key=...)`. In a database it holds a copy of them:
    deleting the run deletes its tables there, deleting the dataset does not.

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
        backend: "faiss" searches in the memory of this process; "lancedb", "milvus" and "pgvector"
            in a database, each by an extra of that name. They take no centred band.
        uri: the address of the database: a folder or object store (LanceDB), a file or server
            (Milvus), a connection string (pgvector). It is stored with the run unless it holds a
            user or a password. Default: the environment variable of FiftyOne's own backend.
        text: keep the plain embeddings in the database, too, to answer text; False saves their
            room. "faiss" answers text in any case.

    Raises:
        DatasetError: if the key cannot be used, another process is using it, the field does not
            fit, or the database cannot be asked.
        CheckpointError: if the checkpoint cannot be loaded.
    """
    dataset = dataset_of(samples)
    check_key(brain_key)
    register()
    check_storage(storage)
    _check_address(backend, uri)
    loaded = load_model(model) if isinstance(model, str) else model
    check_brain_key(dataset, brain_key)
    find_centre(dataset, loaded.band, field, patches_field)
    said = {
        "embeddings_field": field,
        "patches_field": patches_field,
        "model": loaded.zoo_name,
        "model_kwargs": loaded.zoo_kwargs or None,
        "storage": storage,
    }
    tables = None
    if backend != "faiss":
        tables = _open(dataset, backend, uri, loaded.band, said | {"text": text})
    embed(samples, loaded, field, patches_field=patches_field, batch_size=batch_size)
    try:
        if tables is None:
            return _load(dataset, brain_key, said)
        return _fill(dataset, brain_key, tables)
    except BaseException as error:
        # FiftyOne registers a run before it computes it, and would leave it without results.
        if dataset.has_brain_run(brain_key):
            _take_back(dataset, brain_key, tables, error)
        raise


def _check_address(backend: str, uri: str | None) -> None:
    if uri and backend == "faiss":
        raise DatasetError(
            "uri= is the address of a database, and backend='faiss' keeps vectors in memory; name "
            "the database as well, such as backend='lancedb', or leave uri out"
        )


def _load(dataset: fo.Dataset, brain_key: str, said: dict[str, Any]) -> FaissSimilarityIndex:
    index: FaissSimilarityIndex = fob.compute_similarity(
        dataset, embeddings=False, brain_key=brain_key, backend=FaissSimilarityConfig, **said
    )
    index.prepare()
    return index


def _open(
    dataset: fo.Dataset, backend: str, uri: str | None, band: Band, said: dict[str, Any]
) -> TableSimilarity:
    """Connect to a database before anything is embedded for it."""
    check_band(backend, band)
    return open_database(dataset, backend, uri, supports_prompts=said["text"], **said)


def _fill(dataset: fo.Dataset, brain_key: str, tables: TableSimilarity) -> TableSimilarityIndex:
    tables.register_run(dataset, brain_key, overwrite=False)
    index = tables.initialize(dataset, brain_key)
    index.fill()
    tables.save_run_results(dataset, brain_key, index)
    return index


def _take_back(
    dataset: fo.Dataset, brain_key: str, tables: TableSimilarity | None, error: BaseException
) -> None:
    """Delete a run whose building failed, unless its tables stay: it knows their names."""
    if tables is None:
        dataset.delete_brain_run(brain_key)
        return
    try:
        tables.initialize(dataset, brain_key).cleanup()  # only this process may know where
    except IsoClipError as stays:
        names = " and ".join(filter(None, [tables.config.images_table, tables.config.texts_table]))
        told = (
            f"the tables {names} could not be deleted and stay, with the run {brain_key!r} that "
            f"deletes them once it is deleted itself: {stays}"
        )
        if isinstance(error, IsoClipError):
            raise DatasetError(f"{error}; {told}") from error
        logger.error(told)
    else:
        dataset.delete_brain_run(brain_key)
