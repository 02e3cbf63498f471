"""Connections to Milvus: a server's, or a file that is opened while it is asked and then let go.

A file is of one process at a time, and a notebook and the App that it started are two: whoever has
it open lets go of it a moment after the last question, and the other waits for that.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import RLock, Timer
from typing import Any, Protocol

CONNECT_SECONDS = 10.0
"""How long a connection waits for a server, or for another process to let go of a file."""

_IDLE_SECONDS = 1.0
"""How long a file stays open: opening one of 100,000 vectors took half a second (measured)."""

_TRY_SECONDS = 0.1


class Connection(Protocol):
    """A database that lends its client."""

    is_file: bool

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it answers with where something is wrong."""
        ...

    def client(self) -> AbstractContextManager[Any]:
        """Lend a `MilvusClient`."""
        ...


class Server:
    """A Milvus server: one client, which threads share."""

    is_file = False

    def __init__(self, uri: str, settings: Mapping[str, Any]) -> None:
        self._settings = {"uri": uri, "timeout": CONNECT_SECONDS, **settings}
        self._lock = RLock()
        self._client: Any = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See `Connection`."""
        from pymilvus import MilvusException

        return (MilvusException,)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Lend the client, connected when it is first asked for."""
        with self._lock:
            if self._client is None:
                self._client = _quiet_client()(**self._settings)
        yield self._client


class File:
    """A Milvus in a file: threads take turns, and so do processes."""

    is_file = True

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = RLock()
        self._opened: tuple[Any, Any, Any] | None = None
        self._timer: Timer | None = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See `Connection`."""
        from milvus_lite import MilvusLiteError
        from pymilvus import MilvusException

        return (MilvusException, MilvusLiteError, OSError)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Lend the client of the file, which is opened if it is not."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._opened is None:
                self._opened = self._open()
            try:
                yield self._opened[0]
            finally:
                self._timer = Timer(_IDLE_SECONDS, self.close)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                client, server, database = opened
                client.close()
                server.stop(grace=None).wait()
                database.close()

    def _open(self) -> tuple[Any, Any, Any]:
        # pymilvus would open it, too, but hold it for as long as the process lives.
        from milvus_lite import DataDirLockedError
        from milvus_lite.adapter.grpc.server import start_server_in_thread

        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                server, database, port = start_server_in_thread(self._path)
                break
            except DataDirLockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TRY_SECONDS)
        # A connection of its own: one that is shared is not closed with its client.
        client = _quiet_client()(f"http://127.0.0.1:{port}", dedicated=True)
        return client, server, database


_FILES: dict[str, File] = {}


@atexit.register
def _close_files() -> None:
    for file in _FILES.values():
        file.close()


def connect(uri: str, settings: Mapping[str, Any]) -> Connection:
    """The connection to an address: a server's if it has a scheme, otherwise a file's.

    Args:
        uri: such as "http://localhost:19530", or the path of a file.
        settings: more of what `MilvusClient` takes, for a server.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or it tells of every process that is started
    if "://" in uri:
        return Server(uri, settings)
    return _FILES.setdefault(uri, File(uri))


def _quiet_client() -> Any:
    """The class of clients, which print the traceback of every error that they also raise."""
    from pymilvus import MilvusClient

    for name in ("decorators", "client.iterator"):
        logging.getLogger(f"pymilvus.{name}").setLevel(logging.CRITICAL)
    return MilvusClient
