"""What a run on a database remembers, and what it must not: addresses that hold a secret."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fiftyone as fo
import fiftyone.brain as fob
from fiftyone.brain.similarity import SimilarityConfig

from fiftyone_isoclip.dataset.similarity_backends import config_class
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index import Storage, check_storage
from fiftyone_isoclip.projector import Band

_CHOSEN_HERE = ("config_cls", "metric", "table_name", "collection_name", "index_name")
"""Settings of FiftyOne's backends that its indexes may share and ours do not."""

_MARKS = "@?#"
"""A user is before the first, parameters are behind the others; passwords may hold any of them."""


class TableConfig(SimilarityConfig):
    """Put before FiftyOne's configuration of a database, whose settings and variables it keeps.

    Args:
        checkpoint: the checkpoint that made the vectors, if known.
        band: the band images are searched with, as "TOP/BOTTOM", if known.
        fingerprint: of the weights that made the vectors, if known.
        storage: "float32", or "float16" for half the room and similarities within 5e-4.
        text: whether plain embeddings are kept in a table of their own, to answer text.
        address: of the database; None if it holds a secret, and then the environment has to
            name it in every session.
        images_table: the name of the table of what images are compared by, chosen when built.
        texts_table: the name of the table of plain embeddings, if there is one.
        copied: what the field held when the tables were last filled from it.
        **settings: see FiftyOne's configuration.
    """

    address_setting: ClassVar[str] = "uri"
    """What FiftyOne's configuration calls the address of the database."""

    credentials: ClassVar[tuple[str, ...]] = ()
    """Settings of the environment that are for the address it names, and told to no other."""

    @classmethod
    def holds_secret(cls, address: str) -> bool:
        """Whether an address may hold a user, a password or a key; a path of files holds none."""
        return "://" in address and any(mark in address for mark in _MARKS)

    @classmethod
    def is_path(cls, address: str) -> bool:
        """Whether an address is that of files on this machine."""
        return cls.address_setting == "uri" and "://" not in address

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        band: str | None = None,
        fingerprint: str | None = None,
        storage: Storage = "float32",
        text: bool = True,
        address: str | None = None,
        images_table: str | None = None,
        texts_table: str | None = None,
        copied: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        given = {self.address_setting: address} | settings
        super().__init__(**given | {"metric": "cosine"})
        self.checkpoint = checkpoint
        self.band = band
        self.fingerprint = fingerprint
        self.storage = check_storage(storage)
        self.text = text
        self.address = address
        self.images_table = images_table
        self.texts_table = texts_table
        self.copied = copied

    @property
    def connected_address(self) -> str | None:
        """Where the database is, also if that is not stored; None if nobody said."""
        found: str | None = getattr(self, self.address_setting)
        return found

    @property
    def address_variable(self) -> str:
        """The environment variable that names the address, as FiftyOne reads it."""
        return f"FIFTYONE_BRAIN_SIMILARITY_{self.method}_{self.address_setting}".upper()

    def load_credentials(self, **given: Any) -> None:
        """Find out where the database is: as given, else as stored, else from the environment."""
        if given.get(self.address_setting) is None:
            given[self.address_setting] = self.address
        super().load_credentials(**given)
        if self.connected_address != environment(self.method).get(self.address_setting):
            for name in self.credentials:
                setattr(self, name, given.get(name))

    def need_address(self) -> str:
        """Where the database is.

        Raises:
            DatasetError: nobody said.
        """
        address = self.connected_address
        if address is None:
            raise DatasetError(
                f"an index in {self.method} needs the address of its database, and none is stored "
                f"with it: set the environment variable {self.address_variable}, or build it with "
                "uri=... (an address that may hold a secret is never stored)"
            )
        return address

    def settle(self, dataset: fo.Dataset) -> None:
        """Choose names for the tables and decide whether the address is stored.

        Raises:
            DatasetError: nobody said where the database is.
        """
        address = self.need_address()
        if self.is_path(address):
            address = str(Path(address).expanduser().absolute())  # found from other folders, too
            setattr(self, self.address_setting, address)
        self.address = None if self.holds_secret(address) else address
        # Names of datasets can be alike, or change.
        self.images_table = f"{_owned_by(dataset)}{secrets.token_hex(4)}"
        self.texts_table = f"{self.images_table}_text" if self.text else None

    def is_owned_by(self, dataset: fo.Dataset) -> bool:
        """Whether the tables are of this dataset; a clone has the run of the one it was made of."""
        return (self.images_table or "").startswith(_owned_by(dataset))

    def check_owner(self, dataset: fo.Dataset, brain_key: str | None) -> None:
        """Refuse to change tables that are not of this dataset.

        Raises:
            DatasetError: they are not.
        """
        if not self.is_owned_by(dataset):
            raise DatasetError(
                f"index {brain_key!r} of {dataset.name!r} is of tables that belong to the dataset "
                "it was cloned from, and cannot be changed here; build an index of its own"
            )


def make_config(backend: str, uri: str | None, **said: Any) -> TableConfig:
    """The configuration of an index to be: as said, else as the environment has it.

    Raises:
        DatasetError: there is no such backend, or nobody said where the database is.
    """
    config_cls = config_class(backend)
    found = environment(backend)
    own = found.get(config_cls.address_setting)
    left_out = {*_CHOSEN_HERE, *(config_cls.credentials if uri and uri != own else ())}
    settings = {name: value for name, value in found.items() if name not in left_out}
    if uri:
        settings[config_cls.address_setting] = uri
    config = config_cls(**settings, **said)
    config.need_address()
    return config


def check_band(backend: str, band: Band | None) -> None:
    """Refuse a band that only indexes in memory compare with.

    Raises:
        DatasetError: it is centred.
    """
    if band is not None and band.centred:
        raise DatasetError(
            f"band {band} was asked for in {backend}, and indexes in databases take no "
            f"centred band; use backend='faiss', or band {replace(band, centred=False)}"
        )


def environment(backend: str) -> dict[str, Any]:
    """The settings of FiftyOne's own backend, from its configuration and environment variables."""
    return dict(fob.brain_config.similarity_backends.get(backend, {}))


def _owned_by(dataset: fo.Dataset) -> str:
    return f"isoclip_{dataset._doc.id}_"
