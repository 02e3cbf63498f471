"""The demonstration's photographs: found in installed packages, or their absence is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import fiftyone_isoclip.demo.photographs as photographs
from fiftyone_isoclip.demo.photographs import find_photographs
from fiftyone_isoclip.errors import IsoClipError


def test_photographs_are_readable_and_named_once() -> None:
    """About twenty files that really decode, each with its own name."""
    found = find_photographs()
    assert len({item.name for item in found}) == len(found) >= 15
    for item in found:
        with Image.open(item.path) as image:
            assert min(image.convert("RGB").size) >= 100


def test_no_photograph_at_all_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation without sample data gets a sentence, not an empty demonstration."""
    monkeypatch.setattr(photographs, "_KNOWN", (("skimage", str(tmp_path), ("absent.png",)),))
    with pytest.raises(IsoClipError, match="scikit-image"):
        find_photographs()
