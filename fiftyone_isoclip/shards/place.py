"""Where files lie: a folder, or whatever a URI names that pyarrow or fsspec can reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import fsspec
import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import fs

from fiftyone_isoclip.errors import IsoClipError, StoreError
from fiftyone_isoclip.files.listing import is_own, is_uri, own_path, reason_of
from fiftyone_isoclip.index.whole_files import write_whole

LOCK = "writer.lock"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder and the filesystem it lies on; ``uri`` finds it again from any process."""

    uri: str
    filesystem: fs.FileSystem
    root: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's own filesystem."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def names(self, folder: str) -> list[str]:
        """The names in a folder ("" is the top), sorted; none if there is no such folder.

        Raises:
            StoreError: it cannot be listed.
        """
        path = self._path(folder) if folder else self.root
        where = fs.FileSelector(path, allow_not_found=True)
        with self._told(folder, "listed"):
            return sorted(each.base_name for each in self.filesystem.get_file_info(where))

    def read(self, name: str) -> bytes:
        """The whole content of a file.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it cannot be read, or not all of it came.
        """
        path = self._path(name)
        with self._told(name, "read", absent=True), self.filesystem.open_input_file(path) as file:
            return read_all(file)

    def size(self, name: str) -> int | None:
        """The bytes of a file as its filesystem lists it; None if there is none.

        Raises:
            StoreError: the filesystem does not say.
        """
        with self._told(name, "asked for"):
            (found,) = self.filesystem.get_file_info([self._path(name)])
        return None if found.size is None else int(found.size)

    def write(self, name: str, content: bytes) -> None:
        """Put a file in its place: whole, or not at all as far as the filesystem can do that.

        A folder of this machine gets a draft that is renamed; an object store shows what was
        uploaded once all of it is there.

        Raises:
            StoreError: it cannot be written.
        """
        path = self._path(name)
        if self.is_local:
            write_whole(path, lambda file: file.write(content), len(content), make_folder=True)
            return
        with self._told(name, "written"):
            try:
                self._upload(path, content)
            except FileNotFoundError:  # a filesystem that has folders, and not this one yet
                self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
                self._upload(path, content)

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if there is none.

        Raises:
            StoreError: it cannot be removed.
        """
        with suppress(FileNotFoundError), self._told(name, "removed", absent=True):
            self.filesystem.delete_file(self._path(name))

    @contextmanager
    def one_writer(self) -> Iterator[None]:
        """Be the only one who writes here; an object store knows no locks, and none is taken there.

        Raises:
            StoreError: another process of this machine writes here, or the folder refuses.
        """
        if not self.is_local:
            yield
            return
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path(LOCK))
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(
                f"another process is writing to {self.uri}; wait until it has ended (a killed "
                "process frees it), or name another store"
            ) from error
        except OSError as error:
            raise StoreError(f"{self.uri} cannot be written: {reason_of(error)}") from error
        try:
            yield
        finally:
            lock.release()

    def _upload(self, path: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(path) as file:
            file.write(content)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def _told(self, name: str, done: str, *, absent: bool = False) -> Iterator[None]:
        try:
            yield
        except (IsoClipError, MemoryError):
            raise
        except Exception as error:  # each filesystem has errors of its own
            if absent and isinstance(error, FileNotFoundError):
                raise
            raise StoreError(f"{self.uri}/{name} cannot be {done}: {in_a_line(error)}") from error


def read_all(file: pa.NativeFile) -> bytes:
    """The content of an open file.

    Raises:
        OSError: less came than the file has, as when a connection breaks.
    """
    size, content = file.size(), bytes(file.read())
    if len(content) != size:
        raise OSError(f"{len(content)} of {size} bytes came")
    return content


def in_a_line(error: Exception) -> str:
    """What an error of any filesystem says, or of what kind it is."""
    return (reason_of(error).splitlines() or [type(error).__name__])[0][:200]


def open_place(uri: str) -> Place:
    """Find the filesystem of a path or URI; nothing need be there yet.

    Raises:
        StoreError: no filesystem is known by that scheme, or it cannot be reached.
    """
    uri = own_path(uri)
    if not is_uri(uri):
        root = str(Path(uri).absolute())
        return Place(root, fs.LocalFileSystem(), root)
    with _reached(uri):
        return Place(uri, *_filesystem(uri))


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a file, and the path of the file on it.

    Unlike in the URI of a store, what follows the host is the path as it is, with any signs.

    Raises:
        StoreError: as `open_place`.
    """
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    with _reached(uri):
        filesystem, root = _host(f"{scheme}://{host}")
    return filesystem, f"{root}{slash}{path}"


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise StoreError(
            f"{uri} cannot be reached ({in_a_line(error)}); name a folder, or a URI of a "
            "filesystem that pyarrow or an installed package of fsspec knows, such as s3://BUCKET/FOLDER"
        ) from error


@lru_cache(maxsize=64)
def _host(host: str) -> tuple[fs.FileSystem, str]:
    # Opened once: to learn where a bucket lies is a question of its own.
    return _filesystem(f"{host}/")


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        found, path = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid:
        if is_own(uri):  # fsspec would take the name of the machine for a folder
            raise ValueError("files of this machine are file:///PATH") from None
        theirs, path = fsspec.core.url_to_fs(uri)
        found = fs.PyFileSystem(_Honest(theirs))
    return found, path.rstrip("/")


class _Honest(fs.FSSpecHandler):  # type: ignore[misc] # pyarrow has no types
    """Tells a filesystem that is away; `isfile` and `isdir` of fsspec take it for an empty one."""

    def open_input_stream(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self.fs.open(path, mode="rb"), mode="r")

    open_input_file = open_input_stream

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        self.fs.invalidate_cache(selector.base_dir)  # others write there too
        self.get_file_info([selector.base_dir])
        return list(super().get_file_info_selector(selector))

    def delete_file(self, path: str) -> None:
        self.fs.info(path)
        super().delete_file(path)
