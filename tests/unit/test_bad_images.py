"""Files nobody vouches for: a short reason for each, and nothing worse."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image, ImageFile

from fiftyone_isoclip.encoder import ImageLimits, read_image
from fiftyone_isoclip.errors import ImageError


def _noise():
    draws = np.random.default_rng(0)
    return Image.fromarray(draws.integers(0, 255, (200, 300, 3), dtype=np.uint8))


def _truncated(suffix):
    def make(folder):
        path = folder / f"whole.{suffix}"
        _noise().save(path)
        (folder / f"bad.{suffix}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return folder / f"bad.{suffix}"

    return make


def _containing(content):
    def make(folder):
        (folder / "bad.jpg").write_bytes(content)
        return folder / "bad.jpg"

    return make


def _fifo(folder):
    os.mkfifo(folder / "bad.jpg")
    return folder / "bad.jpg"


def _loop(folder):
    (folder / "bad.jpg").symlink_to(folder / "other.jpg")
    (folder / "other.jpg").symlink_to(folder / "bad.jpg")
    return folder / "bad.jpg"


def _sparse(folder):
    with (folder / "bad.jpg").open("wb") as file:
        file.truncate(ImageLimits().file_bytes + 1)
    return folder / "bad.jpg"


BAD = {
    "truncated jpeg": (_truncated("jpg"), "truncated"),
    "truncated png": (_truncated("png"), "truncated|broken"),
    "truncated webp": (_truncated("webp"), "cannot be decoded|beginning is damaged"),
    "truncated tiff": (_truncated("tif"), "cannot be decoded"),
    "empty": (_containing(b""), "the file is empty"),
    "text": (_containing(b"not a picture\n" * 50), "not a picture in a known format"),
    "html": (_containing(b"<!doctype html><html></html>"), "not a picture in a known format"),
    "svg": (_containing(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a picture in a known"),
    "postscript": (_containing(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not a pict"),
    "jpeg header": (_containing(b"\xff\xd8\xff\xe0"), "not a picture in a known format"),
    "missing": (lambda folder: folder / "gone.jpg", "no such file"),
    "directory": (lambda folder: folder, "a folder"),
    "fifo": (_fifo, "not a regular file"),
    "symlink loop": (_loop, "too many levels"),
    "too many bytes": (_sparse, "more than 536,870,912 bytes"),
    "NUL in its name": (lambda folder: f"{folder}/a\0b.jpg", "cannot be decoded: embedded null"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", BAD)
def test_f04_a_bad_file_has_a_short_reason_without_its_path(kind, tmp_path):
    make, reason = BAD[kind]
    path = make(tmp_path)
    with pytest.raises(ImageError, match=f"(?i){reason}") as told:
        read_image(path)
    assert str(tmp_path) not in str(told.value)
    assert len(str(told.value)) < 160


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((30_000, 30_000), "more than 89,478,485 pixels"),
        ((10_000, 9_000), "more than 89,478,485 pixels"),
        ((20_000, 1), "20000 x 1: one side is over 100 times the other"),
        ((1, 20_000), "over 100 times"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_f05_huge_pictures_are_refused_before_decoding(size, reason, tmp_path, monkeypatch):
    Image.new("1", size).save(tmp_path / "bomb.png")
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "bomb.png")
    assert decoded == []
