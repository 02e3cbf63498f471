"""The `faiss` similarity backend of FiftyOne's Brain: its configuration and its factory.

Beware: both classes must stay in this module, whose path must contain "similarity"; FiftyOne
stores the path with every run and the App sorts runs by it. Loading a stored run imports this
module and nothing else, which is why it registers the zoo: text and uploaded images then find
their model in any session.
"""

from __future__ import annotations

from typing import Any

from fiftyone.brain.similarity import Similarity, SimilarityConfig

from fiftyone_isoclip.dataset.similarity_files import inverted_path
from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex
from fiftyone_isoclip.dataset.zoo import BACKEND, register
from fiftyone_isoclip.index import Storage, check_storage

__all__ = ["FaissSimilarity", "FaissSimilarityConfig", "FaissSimilarityIndex"]


class FaissSimilarityConfig(SimilarityConfig):
    """What a run of the backend remembers.

    Args:
        embeddings_field: the field the vectors are read from; None keeps them with the run.
        checkpoint: the checkpoint that made the vectors, if known.
        band: the band images are searched with, as "TOP/BOTTOM" or
            "TOP/BOTTOM-centred", if known.
        fingerprint: of the weights that made the vectors, if known.
        centre: the digest of the centre that a centred band compares from.
        search: how the neighbours of images are found, in a sentence.
        storage: "float32", or "float16" for half the memory and similarities within 3e-4.
        **kwargs: see FiftyOne's `SimilarityConfig`.
    """

    def __init__(
        self,
        embeddings_field: str | None = None,
        checkpoint: str | None = None,
        band: str | None = None,
        fingerprint: str | None = None,
        search: str | None = None,
        storage: Storage = "float32",
        centre: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(embeddings_field=embeddings_field, **kwargs)
        self.checkpoint = checkpoint
        self.band = band
        self.fingerprint = fingerprint
        self.search = search
        self.storage = check_storage(storage)
        self.centre = centre

    @property
    def method(self) -> str:
        """The backend's name."""
        return BACKEND

    @property
    def metric(self) -> str:
        """Distances are 1 - cosine, never centred: 0 for copies, 1 for unrelated vectors."""
        return "cosine"

    @property
    def max_k(self) -> None:
        """No limit: `k=None` sorts everything."""
        return None

    @property
    def supports_least_similarity(self) -> bool:
        """True: `reverse=True` finds the least similar."""
        return True

    @property
    def supported_aggregations(self) -> tuple[str, ...]:
        """Several queries are averaged."""
        return ("mean",)


class FaissSimilarity(Similarity):
    """Makes indexes of this backend."""

    def initialize(self, samples: Any, brain_key: str | None) -> FaissSimilarityIndex:
        """An index of the samples, with the vectors that their field holds already.

        Raises:
            VectorError: if these vectors are not of the run's model.
            DatasetError: if their field says that others made them.
        """
        index = FaissSimilarityIndex(samples, self.config, brain_key, backend=self)
        if self.config.model is not None:
            index.settle()
        return index

    def cleanup(self, samples: Any, key: str) -> None:
        """Delete the inverted file of a run that is being deleted."""
        inverted_path(samples._root_dataset, key).unlink(missing_ok=True)

    def rename(self, samples: Any, key: str, new_key: str) -> None:
        """Keep the inverted file with a run that is being renamed."""
        path = inverted_path(samples._root_dataset, key)
        if path.exists():
            path.replace(inverted_path(samples._root_dataset, new_key))


register()
