"""The rows of a similarity index: read from a field or kept with the run, changed and saved."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone.brain.internal.core.utils as fbu
import numpy as np

from fiftyone_isoclip.dataset.centres import read_centre
from fiftyone_isoclip.dataset.indexed import (
    Ids,
    Indexed,
    Rows,
    check_known,
    restored_map,
    restored_vectors,
    without_known,
)
from fiftyone_isoclip.dataset.similarity_field import existing_ids, read_field
from fiftyone_isoclip.dataset.similarity_files import inverted_path, prepare
from fiftyone_isoclip.dataset.similarity_map import choose_map, find_centre
from fiftyone_isoclip.dataset.similarity_queries import ModelQueries
from fiftyone_isoclip.errors import DatasetError

if TYPE_CHECKING:
    from fiftyone_isoclip.projector import EmbeddingMap


class SimilarityRows(ModelQueries):
    """The half of an index that holds the rows; `FaissSimilarityIndex` adds the answers.

    Threads may search while others change it: what is searched is read once, in one piece, and
    changes wait for each other.
    """

    def __init__(
        self,
        samples: Any,
        config: Any,
        brain_key: str | None,
        *,
        indexed: Indexed | None = None,
        backend: Any = None,
    ) -> None:
        self._dataset = samples._dataset  # the frames' own for a view of frames
        self._changing = threading.RLock()
        self._preparing = threading.Lock()  # taken before the other one
        super().__init__(samples, config, brain_key, backend=backend)
        self._indexed = self._read() if indexed is None else indexed

    @property
    def is_external(self) -> bool:
        """Whether the vectors are kept with the run (True) or read from a field (False)."""
        return self.config.embeddings_field is None

    @property
    def sample_ids(self) -> Ids:
        """(n,) the sample of each vector."""
        return self._indexed.sample_ids

    @property
    def label_ids(self) -> Ids | None:
        """(n,) the label of each vector, None unless they are of patches."""
        return self._indexed.label_ids

    @property
    def total_index_size(self) -> int:
        """How many vectors there are, whatever the view."""
        return self._indexed.source.n

    def add_to_index(
        self,
        embeddings: Any,
        sample_ids: Sequence[str],
        label_ids: Sequence[str] | None = None,
        overwrite: bool = True,
        allow_existing: bool = True,
        warn_existing: bool = False,
        reload: bool = True,
    ) -> None:
        """Add vectors, (n, d), also to the field they are read from if there is one.

        Those without direction (NaN, infinite, zero) stay out, counted and named in a warning.

        Raises:
            VectorError: if they do not fit those of the index or of its checkpoint.
            DatasetError: if ids are in the index already and that is not allowed.
        """
        new = Indexed.of(embeddings, sample_ids, label_ids, self.config.storage)
        with self._changing:
            if not overwrite:
                new = without_known(new, self._indexed.ids, allow_existing, warn_existing)
            if new.source.n == 0:
                return
            indexed = self._settled(self._indexed.put(new))
            if not self.is_external:
                ids = sample_ids if label_ids is None else label_ids
                given = dict(zip(map(str, ids), embeddings, strict=True))
                fbu.add_embeddings(
                    self._dataset,
                    [np.asarray(given[id_]) for id_ in new.ids.tolist()],
                    new.sample_ids.tolist(),
                    None if new.label_ids is None else new.label_ids.tolist(),
                    self.config.embeddings_field,
                    patches_field=self.config.patches_field,
                )
            self._replace(indexed, reload)

    def remove_from_index(
        self,
        sample_ids: Sequence[str] | None = None,
        label_ids: Sequence[str] | None = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
        reload: bool = True,
    ) -> None:
        """Remove vectors, also from the field they are read from: a field *is* its index.

        Raises:
            DatasetError: if ids are not in the index and that is not allowed.
        """
        with self._changing:
            indexed = self._indexed
            gone = np.zeros(indexed.source.n, np.bool_)
            for asked, known in ((sample_ids, indexed.sample_ids), (label_ids, indexed.label_ids)):
                if asked is not None and known is not None:
                    check_known(asked, known, allow_missing, warn_missing)
                    gone |= np.isin(known, list(asked))
            if not gone.any():
                return
            if not self.is_external:
                patches = indexed.label_ids is not None
                fbu.remove_embeddings(
                    self._dataset,
                    self.config.embeddings_field,
                    sample_ids=None if patches else indexed.ids[gone].tolist(),
                    label_ids=indexed.ids[gone].tolist() if patches else None,
                    patches_field=self.config.patches_field,
                )
            self._replace(indexed.keep(~gone), reload)

    def get_embeddings(
        self,
        sample_ids: Any = None,
        label_ids: Any = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
    ) -> tuple[Any, Ids, Ids | None]:
        """The unit rows that image queries are compared with, (n, k), and their ids.

        Of a centred index they are the plain ones, (n, r), from which it can be asked again.
        For a sample of an index of patches these are all its patches.

        Raises:
            DatasetError: if ids are not in the index and that is not allowed.
        """
        indexed = self.settle()
        asked, known = label_ids, indexed.label_ids
        if label_ids is None:
            asked, known = sample_ids, indexed.sample_ids
        rows = np.arange(indexed.source.n)
        if asked is not None:
            if known is None:
                raise DatasetError("labels were asked for; this index is of whole images")
            asked = [str(id_) for id_ in np.atleast_1d(asked)]
            check_known(asked, known, allow_missing, warn_missing)
            if known is indexed.ids:
                rows = np.array([indexed.row_of[i] for i in asked if i in indexed.row_of], int)
            else:
                rows = np.flatnonzero(np.isin(known, asked))
        labels = None if indexed.label_ids is None else indexed.label_ids[rows]
        held = indexed.source if indexed.is_centred else indexed.images
        return held.vectors[rows], indexed.sample_ids[rows], labels

    def reload(self) -> None:
        """Read the field again, if the vectors come from one, and look at the view anew."""
        if not self.is_external:
            with self._changing:
                self._indexed = self._read()
        super().reload()

    def cleanup(self) -> None:
        """Delete the inverted file; vectors are deleted with the run, or belong to the dataset."""
        if self.key is not None:
            inverted_path(self._dataset, self.key).unlink(missing_ok=True)

    @property
    def saved(self) -> dict[str, Any]:
        """What FiftyOne stores of these results."""
        indexed = self.settle()
        return {
            **indexed.saved(with_vectors=self.is_external),
            "is_settled": indexed.is_settled,
        }

    def attributes(self) -> list[str]:
        """The attributes that FiftyOne stores."""
        return [*super().attributes(), "saved"]

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, brain_key: str
    ) -> SimilarityRows:
        saved = d["saved"]
        index = cls(samples, config, brain_key, indexed=restored_vectors(saved))
        if saved["is_settled"]:
            index._trust(restored_map(saved))
        return index

    def _read(self) -> Indexed:
        """The vectors of the field, if the index is of one."""
        patches_field = self.config.patches_field
        if self.is_external:
            return Indexed.empty(patches=patches_field is not None)
        field, storage = self.config.embeddings_field, self.config.storage
        return read_field(self._dataset, field, patches_field, storage)

    def _apply_view_if_necessary(self) -> None:
        self._apply_view_to(self._indexed)

    def image_map(self) -> EmbeddingMap | None:
        """What plain embeddings go through to be compared as images; None compares them as is."""
        return self.settle().embedding_map

    def settle(self) -> Indexed:
        """The rows, settled which map images are searched through."""
        indexed: Indexed = self._indexed
        if not indexed.is_settled:
            with self._changing:
                self._indexed = indexed = self._settled(self._indexed)
        return indexed

    def prepare(self) -> Indexed:
        """The settled rows, with an inverted file that fits them if they are many.

        It is read from files if it is there, and else made, which takes seconds for 100,000
        vectors and a minute or two for a million; the log says so.
        """
        indexed = self.settle()
        if indexed.search.is_due:
            with self._preparing:
                indexed = self.settle()  # another thread may have been faster
                if indexed.search.is_due:
                    path = None if self.key is None else inverted_path(self._dataset, self.key)
                    fingerprint, band = self.config.fingerprint, self.config.band
                    if self.config.centre is not None:
                        band = f"{band} {self.config.centre}"
                    indexed = prepare(indexed, path, fingerprint=fingerprint, band=band)
                    with self._changing:
                        # It also fits rows of which some have come or gone meanwhile.
                        self._indexed = replace(self._indexed, inverted=indexed.inverted)
        if self.config.search != indexed.search.description:
            with self._changing:
                self.config.search = indexed.search.description
                if self.key is not None and self._dataset.has_brain_run(self.key):
                    self.save_config()
        return indexed

    def _settled(self, indexed: Indexed) -> Indexed:
        """These rows with the map that images are searched through, checked against the model."""
        if indexed.is_settled or indexed.source.n == 0:
            return indexed
        model = self._isoclip_model()
        if model is None:
            return replace(indexed, is_settled=True)
        field = self.config.embeddings_field
        patches, known = self.config.patches_field, self.config.centre
        centre = find_centre(self._dataset, model.band, field, patches, known)
        found = choose_map(model, indexed.source.dim, self._origin(), field, centre)
        self._remember(model, centre)
        return replace(indexed, embedding_map=found, is_settled=True)

    def _trust(self, found: EmbeddingMap | None) -> None:
        """Take over a stored map, unless the field has another model or centre since."""
        dim = self._indexed.source.dim
        origin = self._origin()
        same = origin is None or self.config.fingerprint in (None, origin.fingerprint)
        if self.config.centre is not None:
            centre = read_centre(self._dataset, self.config.embeddings_field)
            same = same and centre is not None and centre.digest == self.config.centre
        if same and dim and (found is None or found.plain_dim == dim):
            self._indexed = replace(self._indexed, embedding_map=found, is_settled=True)

    def _replace(self, indexed: Indexed, look_anew: bool) -> None:
        self._indexed = indexed
        if look_anew:
            super().reload()

    def _forget_gone(self, indexed: Indexed, rows: Rows) -> bool:
        """Drop what was deleted from the dataset if any of these rows was; whether it was."""
        patches_field = self.config.patches_field if indexed.label_ids is not None else None
        samples = np.unique(indexed.sample_ids[rows]).tolist()
        if existing_ids(self._dataset, patches_field, samples).issuperset(indexed.ids[rows]):
            return False
        with self._changing:  # what another thread adds now is no longer missing
            there = existing_ids(self._dataset, patches_field)
            now = self._indexed
            self._replace(now.keep(np.isin(now.ids, list(there))), look_anew=True)
        return True
