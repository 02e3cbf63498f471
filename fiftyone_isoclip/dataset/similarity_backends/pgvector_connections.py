"""A connection to PostgreSQL that lasts as long as an index, for all of its threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any

from fiftyone_isoclip.errors import DatasetError

_CONNECT_SECONDS = 10
_LEAST_VERSION = (0, 8)


class Database:
    """One connection that threads take turns with, made anew where it was lost."""

    def __init__(self, address: str, settings: Mapping[str, str]) -> None:
        self._address = address
        self._settings = dict(settings)
        self._lock = RLock()
        self._connection: Any = None

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """A cursor in a transaction of its own.

        Raises:
            DatasetError: the database has an old pgvector.
        """
        with self._lock:
            if not self._is_alive():
                self._connection = self._connect()
            with self._connection, self._connection.cursor() as cursor:
                yield cursor

    def _is_alive(self) -> bool:
        from psycopg2 import InterfaceError, OperationalError

        if self._connection is None or self._connection.closed:
            return False
        try:
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (InterfaceError, OperationalError):
            return False
        return True

    def _connect(self) -> Any:
        import psycopg2

        connection = psycopg2.connect(
            self._address, connect_timeout=_CONNECT_SECONDS, **self._settings
        )
        asked = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        with connection, connection.cursor() as cursor:
            cursor.execute(asked)
            found = cursor.fetchone()
            if found is None:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
                cursor.execute(asked)
                found = cursor.fetchone()
        if tuple(int(part) for part in found[0].split(".")[:2]) < _LEAST_VERSION:
            connection.close()
            raise DatasetError(
                f"pgvector {found[0]} is in the database, and 0.8 is needed, the first that finds "
                "as many as are asked for; update it: ALTER EXTENSION vector UPDATE"
            )
        return connection
