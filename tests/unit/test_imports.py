"""What an import costs: a user of one floor does not pay for those above it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fiftyone_isoclip

CLOSELY_WATCHED = ("PIL", "faiss", "fiftyone", "numpy", "open_clip", "scipy", "sklearn", "torch")


def loaded_by(module: str) -> set[str]:
    """The watched packages that a fresh interpreter holds after importing the module."""
    code = f"import sys, {module}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(shown.stdout.split()) & set(CLOSELY_WATCHED)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("fiftyone_isoclip", set()),
        ("fiftyone_isoclip.errors", set()),
        ("fiftyone_isoclip.doctor", set()),
        ("fiftyone_isoclip.cli", {"numpy", "PIL", "faiss", "scipy", "sklearn"}),
        ("fiftyone_isoclip.projector", {"numpy"}),
        ("fiftyone_isoclip.index", {"numpy", "faiss", "scipy", "sklearn"}),
        ("fiftyone_isoclip.files", {"numpy"}),
        ("fiftyone_isoclip.evaluation.metrics.copies", {"numpy", "faiss", "scipy", "sklearn"}),
        ("fiftyone_isoclip.dataset", {"numpy"}),
        ("fiftyone_isoclip.demo", {"numpy"}),
    ],
)
def test_an_import_pulls_in_no_more_than_its_floor_needs(module: str, allowed: set[str]) -> None:
    assert loaded_by(module) <= allowed


def test_every_public_name_is_found_where_it_lives() -> None:
    public = [name for name in fiftyone_isoclip.__all__ if name != "__version__"]
    for name in public:
        assert getattr(fiftyone_isoclip, name).__name__ == name
    assert set(dir(fiftyone_isoclip)) >= set(public)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute find_dupes"):
        _ = fiftyone_isoclip.find_dupes
