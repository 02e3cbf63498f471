"""The databases that an index may lie in, each a real one in a folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fiftyone_isoclip.dataset.similarity_backends import BACKENDS
from tests.postgres import Postgres, bundled_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL with pgvector."""
    programs = bundled_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL with pgvector; install the extra dev")
    pytest.importorskip("psycopg2")
    # Not among pytest's folders, which only root may enter, and the server does not run as root.
    server = Postgres(programs, Path(tempfile.mkdtemp(prefix="isoclip-postgres-")))
    server.create()
    yield server
    server.remove()


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each of the databases."""
    return str(request.param)


@pytest.fixture(scope="module")
def address(
    backend: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> str:
    """Where the database of a backend is; each table in it has a name of its own."""
    if backend == "pgvector":
        return str(request.getfixturevalue("postgres").uri)
    pytest.importorskip({"lancedb": "lancedb", "milvus": "milvus_lite"}[backend])
    return str(tmp_path_factory.mktemp(backend) / f"{backend}.db")
