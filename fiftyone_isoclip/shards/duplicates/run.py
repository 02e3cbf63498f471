"""From a store to its groups of duplicates, by any engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import IsoClipError, StoreError, VectorError
from fiftyone_isoclip.files.keepers import DEFAULT_KEEPER_RULE, FILE_KEEPER_RULES
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.index.binomial import Share
from fiftyone_isoclip.index.pairs import check_similarity
from fiftyone_isoclip.index.probes import DEFAULT_RECALL
from fiftyone_isoclip.projector import Band
from fiftyone_isoclip.shards.duplicates.found import Facts, StoreDuplicates
from fiftyone_isoclip.shards.duplicates.groups import group_rows
from fiftyone_isoclip.shards.duplicates.rows import Layout, Space
from fiftyone_isoclip.shards.duplicates.search import Engine, FoundPairs, Progress, Search
from fiftyone_isoclip.shards.engines import check_engine
from fiftyone_isoclip.shards.store import ShardStore, open_store


def find_store_duplicates(
    store: str,
    *,
    similarity: float = DEFAULT_SIMILARITY,
    band: Band | None = None,
    recall: float = DEFAULT_RECALL,
    engine: str = "local",
    workers: int | None = None,
    prefer: str = DEFAULT_KEEPER_RULE,
    progress: Progress = lambda doing, done, total: None,
) -> StoreDuplicates:
    """Group the images of a store that show the same picture, by IsoCLIP similarity.

    The store is only read; both engines find the same groups. Up to 200,000 images every two are
    compared. Of more, each is compared with those in a few cells: as many as find ``recall`` of
    the pairs of images that were compared with all, and four at least where few of these have a
    pair; 1 compares every two images of any number, in one process.

    Args:
        store: a folder or a URI.
        similarity: the cosine to the keeper from which an image is a duplicate, in (-1, 1].
        band: the checkpoint's own by default.
        recall: the share of pairs that suffices, in (0, 1].
        engine: "local" or "ray".
        workers: of the engine "ray"; by default one for each of its cores.
        prefer: which of ``FILE_KEEPER_RULES`` chooses keepers; where not all files of the
            duplicates are here, the recorded sizes do, and the reasons say so.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        StoreError: there is no store, a run that writes to it has not ended, or it is damaged.
        CheckpointError: its weights cannot be loaded here.
        VectorError: the similarity gives too many pairs, or the recall cannot be reached.
        IsoClipError: the recall, the band, the rule or the engine is not a possible one.
    """
    check_similarity(similarity)
    if not 0.0 < recall <= 1.0:
        raise VectorError(f"A recall is a share of the pairs above 0 and at most 1; got {recall}.")
    if prefer not in FILE_KEEPER_RULES:
        raise IsoClipError(
            f"files alone are not ranked by {prefer!r}; choose from {', '.join(FILE_KEEPER_RULES)}"
        )
    opened = open_store(store)
    opened.require_whole()
    space, band = _space(opened, band)
    layout = Layout.of(opened.manifest)
    with _open_engine(engine, workers) as running:
        search = Search(space, layout, running, similarity, progress)
        found = search.find(recall)
        involved = np.unique(np.concatenate([found.pairs.left, found.pairs.right]))
        files = search.name(involved)
    rows, rule = group_rows(found.pairs, files, prefer)
    return StoreDuplicates(rows, _facts(opened, band, layout.n, found, rule))


def _space(store: ShardStore, band: Band | None) -> tuple[Space, Band]:
    recipe = store.manifest.recipe
    clip = load_clip(recipe.checkpoint, device="cpu")
    if clip.fingerprint != recipe.fingerprint:
        raise StoreError(
            f"{store.uri} is made by {recipe}, and {recipe.checkpoint} has the weights "
            f"{clip.fingerprint[:12]} here; bring those weights here, or embed the images again"
        )
    band = clip.image_band if band is None else band
    return Space.of(store, clip.isoclip(band)), band


def _facts(store: ShardStore, band: Band, images: int, found: FoundPairs, rule: str) -> Facts:
    share = Share(1.0, 1.0, 1.0) if found.cells == 1 else found.recall
    return Facts(
        checkpoint=store.manifest.recipe.checkpoint,
        fingerprint=store.manifest.recipe.fingerprint,
        band=str(band),
        similarity=found.pairs.least,
        images=images,
        prefer=rule,
        recall=None if share is None else share.share,
        recall_low=None if share is None else share.low,
        recall_high=None if share is None else share.high,
        known_pairs=found.known,
        cells=found.cells,
        visited=found.visited,
    )


@contextmanager
def _open_engine(name: str, workers: int | None) -> Iterator[Engine]:
    check_engine(name, workers)
    if name == "local":
        from fiftyone_isoclip.shards.duplicates.local import LocalSearch

        yield LocalSearch()
        return
    from fiftyone_isoclip.shards.duplicates.ray_engine import open_ray_search

    with open_ray_search(workers) as engine:
        yield engine
