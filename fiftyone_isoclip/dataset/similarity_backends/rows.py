"""The rows of an index whose vectors lie in a database: put there, found, changed and removed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fiftyone_isoclip.dataset.brain_runs import is_built
from fiftyone_isoclip.dataset.indexed import (
    Indexed,
    check_known,
    restored_map,
    saved_map,
    without_known,
)
from fiftyone_isoclip.dataset.similarity_backends.copied import look_at_field
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s, Rows, Tables
from fiftyone_isoclip.dataset.similarity_blocks import read_blocks
from fiftyone_isoclip.dataset.similarity_map import choose_map
from fiftyone_isoclip.dataset.similarity_queries import ModelQueries
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import EmbeddingMap

logger = logging.getLogger(__name__)


class TableRows(ModelQueries):
    """The half of an index that keeps the tables; `TableSimilarityIndex` adds the answers.

    The tables do not follow the field: `find_changes` says what happened to it since, and `fill`
    brings them up to date.
    """

    def __init__(
        self,
        samples: Any,
        config: Any,
        brain_key: str | None,
        *,
        backend: Any = None,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self._dataset = samples._dataset
        self._opening = threading.Lock()
        self._tables: Tables | None = None
        self._dim: int | None = None if saved is None else saved["dim"]
        self._map: EmbeddingMap | None = None if saved is None else restored_map(saved)
        super().__init__(samples, config, brain_key, backend=backend)

    @property
    def total_index_size(self) -> int:
        """How many vectors there are, whatever the view."""
        with self.tables() as tables:
            return tables.images.count()

    @contextmanager
    def tables(self) -> Iterator[Tables]:
        """The tables, opened when they are first asked for.

        Raises:
            DatasetError: the database cannot be asked, in a sentence.
        """
        with self._opening:
            if self._tables is None:
                self._tables = self.backend.open()
        try:
            yield self._tables
        except self._tables.errors as error:
            self.backend.fail(error)

    def image_map(self) -> EmbeddingMap | None:
        """What plain embeddings go through to be compared as images; None compares them as is."""
        return self._map

    def read_field(self) -> Iterator[Indexed]:
        """The vectors of the field that the tables are a copy of, a block at a time."""
        config = self.config
        return read_blocks(self._dataset, config.embeddings_field, config.patches_field)

    def compared(self, vectors: Float32s) -> Float32s:
        """Unit rows of the field as images are compared here: (n, r) -> (n, k)."""
        return vectors if self._map is None else self._map(vectors)

    def fill(self) -> None:
        """Put all vectors of the field into the tables, and take out what it has no longer.

        Done again, this brings an index up to date.

        Raises:
            DatasetError: the tables are another dataset's, the field holds vectors of other weights
                by now, or the database cannot be asked.
            VectorError: the field holds vectors of another dim by now.
        """
        self.config.check_owner(self._dataset, self.key)
        self.check_weights()
        copied = look_at_field(
            self._dataset, self.config.embeddings_field, self.config.patches_field
        )
        gone = set(self._list_ids()[0])
        count = 0
        for block in self.read_field():
            self._put(block)
            gone.difference_update(block.ids.tolist())
            count += block.source.n
            logger.info("%s vectors are in %s", f"{count:,}", self.config.method)
        self._remove(sorted(gone))
        with self.tables() as tables:
            for table in tables.all:
                table.settle()
        self.config.copied = copied  # as before the first row was read
        if self.key is not None:
            self.save_config()

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
        """Add vectors, (n, d), plain where the index was made of plain ones.

        Those without direction (NaN, infinite, zero) stay out, counted and named in a warning.

        Raises:
            VectorError: if they do not fit those of the index or of its checkpoint.
            DatasetError: if ids are in the index already and that is not allowed, or the database
                cannot be asked.
        """
        self.config.check_owner(self._dataset, self.key)
        new = Indexed.of(embeddings, sample_ids, label_ids)
        if not overwrite and new.source.n:
            known = np.array(self._read(new.ids.tolist()).ids, dtype="<U24")
            new = without_known(new, known, allow_existing, warn_existing)
        self._put(new)
        if reload:
            self.reload()

    def remove_from_index(
        self,
        sample_ids: Sequence[str] | None = None,
        label_ids: Sequence[str] | None = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
        reload: bool = True,
    ) -> None:
        """Remove vectors; the field of the dataset keeps its own.

        Raises:
            DatasetError: if ids are not in the index and that is not allowed, or the database
                cannot be asked.
        """
        self.config.check_owner(self._dataset, self.key)
        for samples, labels in ((sample_ids, None), (None, label_ids)):
            if samples is not None or labels is not None:
                self._remove(self._find(samples, labels, allow_missing, warn_missing).ids)
        if reload:
            self.reload()

    def cleanup(self) -> None:
        """Delete the tables, if they are of this dataset."""
        if self.config.is_owned_by(self._dataset):
            with self.tables() as tables:
                for table in tables.all:
                    table.drop()

    @property
    def saved(self) -> dict[str, Any]:
        """What FiftyOne stores of these results; the vectors are in the database."""
        return {"map": saved_map(self._map), "dim": self._dim}

    def attributes(self) -> list[str]:
        """The attributes that FiftyOne stores."""
        return [*super().attributes(), "saved"]

    @classmethod
    def _from_dict(cls, d: dict[str, Any], samples: Any, config: Any, brain_key: str) -> TableRows:
        return cls(samples, config, brain_key, saved=d["saved"])

    def _put(self, new: Indexed) -> None:
        """Store rows, plain or compressed as they are, after making sure that they fit."""
        if new.source.n == 0:
            return
        vectors = np.asarray(new.source.vectors, np.float32)
        self._settle(vectors.shape[1])
        ids, samples, compared = new.ids.tolist(), new.sample_ids.tolist(), self.compared(vectors)
        with self.tables() as tables:
            tables.images.put(ids, samples, compared)
            if tables.texts is not None:
                tables.texts.put(ids, samples, vectors)

    def _settle(self, dim: int) -> None:
        """Find out what the vectors go through, with the first of them; refuse others of later."""
        if self._dim not in (None, dim):
            raise VectorError(
                f"the index holds vectors made of such of dim {self._dim} and was given some of "
                f"dim {dim}; make them with the same checkpoint, both plain or both IsoCLIP"
            )
        if self._dim is not None:
            return
        model = self._isoclip_model()
        if model is not None:
            self._map = choose_map(model, dim, self._origin(), self.config.embeddings_field)
        if self._map is None:
            self.config.texts_table = None  # texts are compared with what images are
            self._tables = None  # opened again, without it
        self._dim = dim
        if model is not None:
            self._remember(model)
        if self.key is not None and is_built(self._dataset, self.key):
            self.save_config()
            self.save()  # of a run that was built while there were no vectors

    def _recall(self) -> None:
        """Learn what another process settled that put in the first vectors."""
        if self._dim is None and self.key is not None:
            self._dataset.reload()
            found = self.backend.load_run_results(self._dataset, self.key, cache=False)
            if found is not None:
                self._config, self._backend, self._tables = found.config, found.backend, None
                self._dim, self._map = found._dim, found._map

    def _list_ids(self) -> tuple[list[str], list[str]]:
        with self.tables() as tables:
            return tables.images.list_ids()

    def _read(self, ids: Sequence[str]) -> Rows:
        with self.tables() as tables:
            return tables.images.read(ids)

    def _find(
        self, sample_ids: Any, label_ids: Any, allow_missing: bool, warn_missing: bool
    ) -> Rows:
        """The rows of labels, of samples, or all."""
        is_patches = self.config.patches_field is not None
        if label_ids is not None and not is_patches:
            raise DatasetError("labels were asked for; this index is of whole images")
        asked = label_ids if label_ids is not None else sample_ids
        if asked is None:
            return self._read(self._list_ids()[0])
        asked = [str(id_) for id_ in np.atleast_1d(asked)]
        if label_ids is not None or not is_patches:
            found = self._read(asked)
            known = found.ids
        else:
            ids, known = self._list_ids()
            wanted = set(asked)
            found = self._read([id_ for id_, of in zip(ids, known, strict=True) if of in wanted])
        check_known(asked, np.array(known, dtype="<U24"), allow_missing, warn_missing)
        return found

    def _remove(self, ids: Sequence[str]) -> None:
        with self.tables() as tables:
            for table in tables.all if len(ids) else ():
                table.remove(ids)

    def check_weights(self) -> None:
        """Refuse a field that was embedded with other weights since.

        Raises:
            DatasetError: it was.
        """
        origin, built = self._origin(), self.config.fingerprint
        if origin is not None and built not in (None, origin.fingerprint):
            raise DatasetError(
                f"index {self.key!r} was built of vectors of weights {built[:12]}, and field "
                f"{self.config.embeddings_field!r} holds {origin} now; build it again"
            )
