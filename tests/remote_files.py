"""Filesystems for tests that others could only reach over a network: in memory, and failing."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FailingFileSystem(MemoryFileSystem):
    """Files in memory under failing://, with what a test puts in the way of an answer.

    ``hears`` is called with what is asked ("info" or "open") and the path, and may raise;
    ``gives`` makes the open file of a content; ``opened`` lists the paths that were opened.
    """

    protocol = "failing"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    hears: ClassVar[Callable[[str, str], object]]
    gives: ClassVar[Callable[[bytes], BytesIO]]
    opened: ClassVar[list[str]] = []

    @classmethod
    def answer(cls, hears=lambda asked, path: None, gives=BytesIO) -> None:
        """Answer everything, but for this."""
        cls.hears, cls.gives = staticmethod(hears), staticmethod(gives)

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("failing://", "memory://"))

    def info(self, path, **how):
        self.hears("info", path)
        return super().info(path, **how)

    def open(self, path, mode="rb", **how):
        self.hears("open", path)
        self.opened.append(path)
        file = super().open(path, mode, **how)
        return self.gives(file.getvalue()) if mode == "rb" else file


FailingFileSystem.answer()
fsspec.register_implementation("failing", FailingFileSystem, clobber=True)


def fill(uri: str, paths: list[str], folder: Path) -> list[str]:
    """Copy files below a folder to the same names below a URI; -> their URIs."""
    filesystem, root = fsspec.core.url_to_fs(uri)
    names = [os.path.relpath(path, folder) for path in paths]
    for name, path in zip(names, paths, strict=True):
        filesystem.pipe_file(f"{root}/{name}", Path(path).read_bytes())
    return [f"{uri}/{name}" for name in names]
