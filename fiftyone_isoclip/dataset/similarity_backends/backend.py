"""What makes, opens and deletes an index in a database, whichever it is."""

from __future__ import annotations

from typing import Any, NoReturn

import fiftyone as fo
from fiftyone.brain.similarity import Similarity

from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig, make_config
from fiftyone_isoclip.dataset.similarity_backends.index import TableSimilarityIndex
from fiftyone_isoclip.dataset.similarity_backends.tables import Tables
from fiftyone_isoclip.errors import DatasetError, IsoClipError


class TableSimilarity(Similarity):
    """Makes indexes of a backend, which says how its tables are opened."""

    config: TableConfig

    @staticmethod
    def open_tables(config: Any) -> Tables:
        """The tables that a configuration names; nothing need lie in the database yet."""
        raise NotImplementedError

    def initialize(self, samples: Any, brain_key: str | None) -> TableSimilarityIndex:
        """An index without vectors, whose tables have names that the run already knows.

        Raises:
            DatasetError: nobody said where the database is.
        """
        index = TableSimilarityIndex(samples, self.config, brain_key, backend=self)
        if self.config.images_table is None:  # FiftyOne was asked to build it
            self.config.settle(samples._root_dataset)
            if brain_key is not None:
                index.save_config()  # now, so that deleting a run that was killed finds its tables
        return index

    def open(self) -> Tables:
        """Connect to the database.

        Raises:
            DatasetError: nobody said where it is, or it cannot be reached.
            IsoClipError: its client is not installed.
        """
        self.config.need_address()
        try:
            return self.open_tables(self.config)
        except IsoClipError:
            raise
        except ImportError as error:
            raise IsoClipError(
                f"an index in {self.config.method} needs its client; install it with: pip install "
                f"'fiftyone-isoclip[{self.config.method}]'"
            ) from error
        except Exception as error:  # each database has its own, and none of them is ours
            self.fail(error)

    def fail(self, error: Exception) -> NoReturn:
        """Tell an error of the database in a sentence, without its words if they may hold a secret.

        Raises:
            DatasetError: always.
        """
        place, kind = self.config.connected_address or "", type(error).__name__
        told: str = " ".join(str(error).split())[:300] or kind
        if hidden := self.config.holds_secret(place):
            place, told = "its address", f"{kind}, whose words may repeat a secret of the address"
        raise DatasetError(
            f"{self.config.method} at {place} did not do what was asked: {told}; see that "
            "the database is there and can be written, and run the same again"
        ) from (None if hidden else error)

    def cleanup(self, samples: Any, key: str) -> None:
        """Delete the tables of a run that is being deleted.

        Raises:
            DatasetError: the database cannot be asked; the message names the tables.
        """
        dataset = samples._root_dataset
        cached = dataset._brain_cache.get(key)
        if cached is None:
            self.config.load_credentials()
            cached = TableSimilarityIndex(dataset, self.config, None, backend=self)
        try:
            cached.cleanup()
        except IsoClipError as error:
            names = [self.config.images_table, self.config.texts_table]
            tables = " and ".join(name for name in names if name)
            raise DatasetError(f"the tables {tables} of index {key!r} stay: {error}") from error


def open_database(
    dataset: fo.Dataset, backend: str, uri: str | None, **said: Any
) -> TableSimilarity:
    """Connect to the database that an index is to be in, and choose names for its tables.

    Raises:
        DatasetError: there is no such backend, nobody said where its database is, or it cannot be
            reached.
        IsoClipError: its client is not installed.
    """
    config = make_config(backend, uri, **said)
    config.settle(dataset)
    tables: TableSimilarity = config.build()
    tables.open()
    return tables
