"""Which image files a folder or a list file names, each real file once."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from fiftyone_isoclip.errors import IsoClipError

_SUFFIXES = (
    ".avif .bmp .dib .gif .heic .heif .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .pbm .pgm .png .pnm "
    ".ppm .tga .tif .tiff .webp"
)
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())
"""Suffixes (lower case) by which an image is recognised in a folder; a list may name any file."""

URI = r"^[A-Za-z][A-Za-z0-9+.-]*://"
"""How the name of a file on another filesystem begins, a regular expression."""

OWN = r"(?i)^file://"
"""How the URI of a file of this machine begins."""

Identity = tuple[int, int] | str
"""(device, inode) of a file, or its path if it cannot be examined."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files to look at, in a fixed order.

    ``aliases`` are further names of files already in ``paths`` (symlinks, hard links, the same
    line twice): no copies, since removing one would remove the file. ``unreadable`` maps a folder
    that could not be entered to the reason.
    """

    paths: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Iterable[str], unreadable: dict[str, str] | None = None) -> Listing:
        """List paths in the order given, keeping one name of each real file.

        That is the first name, but a symlink gives way to a later name that is none. A path that
        cannot be examined stays: reading it will say why it fails.
        """
        paths = list(paths)
        kept: dict[Identity, int] = {}
        for place, path in enumerate(paths):
            identity = file_identity(path)
            rival = kept.setdefault(identity, place)
            if rival != place and _is_symlink(paths[rival]) and not _is_symlink(path):
                kept[identity] = place
        places = set(kept.values())
        return cls(
            tuple(path for place, path in enumerate(paths) if place in places),
            tuple(path for place, path in enumerate(paths) if place not in places),
            unreadable or {},
        )


def file_identity(path: str) -> Identity:
    """What makes two names the same file: (device, inode), or the name itself if there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return path
    return found.st_dev, found.st_ino


def _is_symlink(path: str) -> bool:
    return "\0" not in path and Path(path).is_symlink()


def file_size(path: str | Path) -> int:
    """The bytes of a regular file.

    Raises:
        OSError: there is none, or it is a folder, a pipe or a device (opening a pipe can hang).
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return found.st_size


def is_uri(path: str) -> bool:
    """Whether a name is that of a file on another filesystem, such as s3://BUCKET/FILE."""
    return re.match(URI, path) is not None


def is_own(uri: str) -> bool:
    """Whether a URI says that its file is one of this machine."""
    return re.match(OWN, uri) is not None


def own_path(name: str) -> str:
    """The path that a URI file:///PATH or file://localhost/PATH names; any other name as it is."""
    found = re.match(rf"{OWN}(?:localhost)?(/.*)", name, re.DOTALL)
    return unquote(found[1]) if found else name


def list_images(path: str | Path) -> list[str]:
    """The images of a folder or a list file, each real file once; see ``list_files``."""
    return list(list_files(path).paths)


def list_files(path: str | Path) -> Listing:
    """List the images of a folder, of a text file of paths, or a single image file.

    A folder is read with its sub-folders, symlinked ones included, sorted by path; names that
    begin with a dot are left out and an image is known by its suffix.

    Raises:
        IsoClipError: nothing is there, or none of the listed files exists.
    """
    unreadable: dict[str, str] = {}
    return Listing.of(read_paths(path, unreadable), unreadable)


def read_paths(path: str | Path, unreadable: dict[str, str] | None = None) -> list[str]:
    """The paths that ``list_files`` would list, repeated and aliased ones included.

    Folders that cannot be read are added to ``unreadable`` with the reason.

    Raises:
        IsoClipError: nothing is there, or none of the listed files exists.
    """
    if is_uri(os.fspath(path)):
        raise IsoClipError(f"{path} is a URI, which only `isoclip embed --store` reads")
    path = Path(path)
    try:
        if path.is_dir():
            return sorted(_walk(path, {} if unreadable is None else unreadable))
        if not path.is_file():
            found = "is neither a folder nor a file" if path.exists() else "does not exist"
            raise IsoClipError(f"{path} {found}; give a folder of images or a file of their paths")
        return [os.fspath(path)] if path.suffix.lower() in IMAGE_SUFFIXES else _read_list(path)
    except (OSError, ValueError) as error:
        raise IsoClipError(f"{path} cannot be read: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """An operating system's error in a few words, without its number and path."""
    return getattr(error, "strerror", None) or str(error)


def _read_list(path: Path) -> list[str]:
    r"""The entries of a list file, one a line; separated by ``\0`` if there is one (``-print0``).

    Empty lines are skipped and relative entries start from the folder of the list.
    """
    text = os.fsdecode(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    # Not splitlines(): a name may hold a form feed or a Unicode line separator.
    lines = text.split("\0") if "\0" in text else text.replace("\r\n", "\n").split("\n")
    entries = [os.fspath(path.parent / line) for line in lines if line.strip()]
    if entries and not any(isinstance(file_identity(entry), tuple) for entry in entries):
        raise IsoClipError(
            f"{path} was read as a list of paths, but none of its {len(entries)} lines names an "
            f"existing file; relative ones start from {path.parent.absolute()}"
        )
    return entries


def _walk(folder: Path, unreadable: dict[str, str]) -> Iterator[str]:
    entered = {file_identity(os.fspath(folder))}

    def note(error: OSError) -> None:
        unreadable[str(error.filename)] = f"the folder cannot be read: {reason_of(error)}"

    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        # A symlink can lead back up; entering each real folder once also ends such a loop.
        folders[:] = [name for name in sorted(folders) if _enters(Path(parent) / name, entered)]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield os.fspath(Path(parent) / name)


def _enters(folder: Path, entered: set[Identity]) -> bool:
    identity = file_identity(os.fspath(folder))
    if folder.name.startswith(".") or identity in entered:
        return False
    entered.add(identity)
    return True
