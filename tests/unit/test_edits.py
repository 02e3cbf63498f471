"""Edited copies: each differs from its original and can still be recognised."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from fiftyone_isoclip.demo.photographs import find_photographs
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files.edits import EDITS, edit_image

CROPS = {"crop 90": 0.9, "crop 70": 0.7, "crop 50": 0.5, "crop 30": 0.3}
MOVED = {"mirrored", "quarter turn", "screenshot", "tilted", "combined", *CROPS}


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A real photograph of about 450 pixels."""
    path = find_photographs()[0].path
    with Image.open(path) as image:
        return image.convert("RGB").resize((360, 300))


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.grayscale(image), dtype=np.float64)


@pytest.mark.parametrize("kind", sorted(EDITS))
def test_equal_seeds_make_equal_copies(photograph: Image.Image, kind: str) -> None:
    """A planted dataset can be planted again."""
    first, again = edit_image(photograph, kind, 5), edit_image(photograph, kind, 5)
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("kind", sorted(set(EDITS) - {"as png"}))
def test_a_copy_is_not_the_same_pixels(photograph: Image.Image, kind: str) -> None:
    """Otherwise it would be an exact copy, which a hash finds."""
    copied = edit_image(photograph, kind, 5)
    assert copied.size != photograph.size or copied.tobytes() != photograph.tobytes()


@pytest.mark.parametrize("kind", sorted(EDITS))
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (640, 1), (640, 2), (1, 640), (5, 1)])
def test_the_smallest_and_narrowest_pictures_can_be_edited(
    size: tuple[int, int], kind: str
) -> None:
    """A tracking pixel is a picture too; whatever a seed draws, something is left of it."""
    picture = Image.new("RGB", size, (200, 90, 30))
    for seed in range(5):
        copied = edit_image(picture, kind, seed)
        assert copied.mode == "RGB"
        assert min(np.asarray(copied).shape) > 0
    if kind == "screenshot":
        shown = np.asarray(copied)
        assert (shown == (200, 90, 30)).all(axis=2).sum() == size[0] * size[1]


def test_an_edit_that_fails_is_an_image_error_with_its_reason(
    photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever edits many pictures loses only this one."""
    monkeypatch.setitem(EDITS, "grey", lambda image, rng: image.crop((0, 0, 5, -5)))
    with pytest.raises(
        ImageError, match=r"'grey' cannot be made of a picture of 360 x 300: .*lower"
    ):
        edit_image(photograph, "grey", 0)


def test_png_loses_nothing(photograph: Image.Image) -> None:
    """Another file, the same pixels: the one kind that is exact in pixels only."""
    assert edit_image(photograph, "as png", 5).tobytes() == photograph.tobytes()


@pytest.mark.parametrize("kind", sorted(set(EDITS) - MOVED))
def test_a_copy_that_moves_nothing_still_correlates(photograph: Image.Image, kind: str) -> None:
    """Grey values agree with the original's, pixel by pixel."""
    copied = _grey(edit_image(photograph, kind, 5).resize(photograph.size))
    assert np.corrcoef(copied.ravel(), _grey(photograph).ravel())[0, 1] > 0.8


@pytest.mark.parametrize("kind", sorted(CROPS))
def test_a_crop_is_a_window_of_the_original(photograph: Image.Image, kind: str) -> None:
    """It keeps the stated share of the area, and its pixels lie in the original unchanged."""
    cut = edit_image(photograph, kind, 5)
    share = cut.width * cut.height / (photograph.width * photograph.height)
    assert share == pytest.approx(CROPS[kind], abs=0.02)
    whole, part = np.asarray(photograph), np.asarray(cut)
    windows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], part.shape[:2])
    assert (windows == part[..., 0]).all(axis=(2, 3)).any()


def test_mirror_and_quarter_turn_undo(photograph: Image.Image) -> None:
    """Twice mirrored, or turned four times, is the original."""
    twice = edit_image(edit_image(photograph, "mirrored", 1), "mirrored", 1)
    turned = photograph
    for _ in range(4):
        turned = edit_image(turned, "quarter turn", 1)
    assert twice.tobytes() == turned.tobytes() == photograph.tobytes()


def test_a_screenshot_holds_the_whole_picture(photograph: Image.Image) -> None:
    """Nothing is cut or scaled; the window around it is larger."""
    window = np.asarray(edit_image(photograph, "screenshot", 5))
    whole = np.asarray(photograph)
    left = (window.shape[1] - whole.shape[1]) // 2
    column = window[:, left : left + whole.shape[1]]
    rows = range(len(column) - len(whole) + 1)
    assert any(np.array_equal(column[row : row + len(whole)], whole) for row in rows)
