"""Maps of a dataset in two dimensions, as runs that FiftyOne's Embeddings panel shows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, get_args

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
from pymongo.errors import ConnectionFailure

from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.locks import check_brain_key, one_writer
from fiftyone_isoclip.dataset.writing import insist
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import Band

MapMethod = Literal["pca", "tsne", "umap"]
"""How a map is made: the two directions of most variance, or neighbours kept together."""

DEFAULT_MAP_KEY = "isoclip_map"

MOST_BY_TSNE = 20_000
"""Images beyond which t-SNE takes longer than anybody waits."""

_FEWEST = 3
_ALIKE = 1e-6
_TSNE_DIMS = 50
_TSNE_PERPLEXITY = 30.0
_UMAP_NEIGHBORS = 15


@dataclass(frozen=True, slots=True)
class MapReport:
    """How many samples are on a map; ``skipped`` maps the others to the reason."""

    brain_key: str
    method: str
    band: str
    n_mapped: int
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.n_mapped} samples mapped by {self.method} under brain key {self.brain_key!r} "
            f"(band {self.band}), {len(self.skipped)} could not be compared"
        )


@one_writer("brain_key")
def map_embeddings(
    samples: Any,
    *,
    field: str = DEFAULT_FIELD,
    band: Band | str | None = None,
    method: MapMethod = "pca",
    brain_key: str = DEFAULT_MAP_KEY,
    seed: int = 0,
) -> MapReport:
    """Lay out samples in two dimensions by how alike their images are.

    The run is one of FiftyOne's own: the Embeddings panel of the App lists it under its brain
    key, and ``dataset.delete_brain_run(brain_key)`` undoes it. Nothing is written to the samples.

    Args:
        samples: a dataset or view with embeddings.
        field: the stored embeddings.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP.
        method: "pca" is quick and linear; "tsne" and "umap" keep neighbours together instead of
            distances, "umap" with the package umap-learn.
        brain_key: the name of the run, ``[a-z][a-z0-9_]*``.
        seed: same seed, same vectors, same map.

    Raises:
        DatasetError: there are no such embeddings, the key is taken, the samples are too few or
            too many for the method, or it is not installed.
    """
    from fiftyone_isoclip.dataset.spaces import open_space  # imports torch: the form needs none

    dataset = dataset_of(samples)
    check_brain_key(dataset, brain_key)
    check_method(method, 0)
    space = open_space(samples, field, band)
    space = space.without_changed(samples)
    ids, vectors = space.stored.ids, space.vectors
    if len(ids) < _FEWEST:
        raise DatasetError(
            f"a map needs {_FEWEST} samples with embeddings, found {len(ids)}; run embed() first, "
            "or choose a larger view"
        )
    if np.ptp(vectors, axis=0).max() < _ALIKE:
        raise DatasetError(
            f"all {len(ids)} images look the same to band {space.band}, so that a map of them has "
            "nothing to show; choose a larger view"
        )
    check_method(method, len(ids))
    mapped = dataset if len(ids) == len(dataset) else dataset.select(ids)

    def lay_out() -> None:
        _clear(dataset, brain_key)
        fob.compute_visualization(
            mapped,
            embeddings=dict(zip(ids, vectors, strict=True)),
            method=method,
            brain_key=brain_key,
            seed=seed,
            **_settings(method, *vectors.shape),
        )

    try:
        insist(dataset, lay_out)
    except BaseException:
        with suppress(ConnectionFailure):
            _clear(dataset, brain_key)
        raise
    return MapReport(brain_key, method, str(space.band), len(ids), space.stored.skipped)


def list_maps(dataset: Any) -> list[str]:
    """The brain keys of all maps that the Embeddings panel lists, whoever made them."""
    keys: list[str] = dataset.list_brain_runs(type="visualization")
    return keys


def check_method(method: str, n: int) -> None:
    """Make sure that a map of n samples can be made by this method.

    Raises:
        DatasetError: it is unknown or not installed, or they are too many for it.
    """
    if method not in get_args(MapMethod):
        known = ", ".join(get_args(MapMethod))
        raise DatasetError(f"maps are made by {known}, found method={method!r}")
    if method == "umap" and find_spec("umap") is None:
        raise DatasetError(
            'method="umap" needs a package that is not installed: pip install umap-learn; '
            '"tsne" makes similar maps without it'
        )
    if method == "tsne" and n > MOST_BY_TSNE:
        raise DatasetError(
            f'method="tsne" was asked for {n} samples and takes at most {MOST_BY_TSNE}; '
            f'use "pca" or "umap", or a view of fewer: dataset.take({MOST_BY_TSNE})'
        )


def _clear(dataset: fo.Dataset, brain_key: str) -> None:
    # FiftyOne registers a run before it computes it, and would leave it without results.
    if dataset.has_brain_run(brain_key):
        dataset.delete_brain_run(brain_key)


def _settings(method: MapMethod, n: int, dim: int) -> dict[str, Any]:
    """What FiftyOne's method needs to be told, because its defaults do not fit few vectors."""
    if method == "tsne":
        perplexity = min(_TSNE_PERPLEXITY, (n - 1) / 3)
        return {"pca_dims": min(_TSNE_DIMS, n, dim), "perplexity": perplexity, "verbose": False}
    if method == "umap":
        return {"num_neighbors": min(_UMAP_NEIGHBORS, n - 1), "verbose": False}
    return {}
