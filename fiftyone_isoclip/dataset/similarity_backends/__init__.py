"""Similarity indexes in other databases: the searches of `faiss`, with the vectors elsewhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fiftyone_isoclip.errors import DatasetError

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig

BACKENDS = {"lancedb": "LanceDBConfig", "milvus": "MilvusConfig", "pgvector": "PgvectorConfig"}
"""Backend -> the class of its runs' configuration, in the module of the backend's name."""


def config_class(backend: str) -> type[TableConfig]:
    """The configuration of runs on a database; its module does not import the database's client.

    Raises:
        DatasetError: there is no such backend.
    """
    if backend not in BACKENDS:
        names = ", ".join(["faiss", *BACKENDS])
        raise DatasetError(f"backend {backend!r} was asked for; choose one of {names}")
    module = importlib.import_module(f"{__name__}.{backend}")
    found: Any = getattr(module, BACKENDS[backend])
    return found  # type: ignore[no-any-return]
