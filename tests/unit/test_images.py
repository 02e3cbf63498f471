"""What a picture becomes: one defined conversion for each way of storing it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError


def scene(width=60, height=40):
    """A smooth picture without symmetry, so that a flip or a turn shows: (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    channels = [x, y * 1.4, (x * y * 2 + 0.2) % 1]
    return (np.stack(channels, axis=2) * 255).clip(0, 255).astype(np.uint8)


def grey(width=60, height=40):
    return scene(width, height).mean(axis=2) / 255


def likeness(found, expected):
    """Cosine between two pictures about their means, 1 for the same up to brightness."""
    left, right = (np.asarray(a, dtype=float).ravel() for a in (found, expected))
    left, right = left - left.mean(), right - right.mean()
    return left @ right / np.linalg.norm(left) / np.linalg.norm(right)


def written(folder, picture, name, **options):
    picture.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(name, tmp_path):
    wide = np.rint(grey() * 65535).astype(np.uint16)
    found = np.asarray(read_image(written(tmp_path, Image.fromarray(wide), name)), int)
    assert np.array_equal(found, np.repeat(np.rint(wide / 257).astype(int)[..., None], 3, 2))


def test_sixteen_bit_colour(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="Pillow cannot write 16-bit colour")
    cv2.imwrite(str(tmp_path / "a.png"), scene()[..., ::-1].astype(np.uint16) * 257)
    assert np.abs(np.asarray(read_image(tmp_path / "a.png"), int) - scene()).max() <= 1


@pytest.mark.parametrize("scale", [1.0, 255.0, 1e-30, 1e6])
def test_floats(scale, tmp_path):
    values = (grey() * scale).astype(np.float32)
    found = np.asarray(read_image(written(tmp_path, Image.fromarray(values), "a.tif")))[..., 0]
    if scale == 1:
        assert np.abs(found / 255 - grey()).max() < 0.003
    elif scale > 1:
        assert (found.min(), found.max()) == (0, 255)
        assert likeness(found, grey()) > 0.999


def test_negative_floats_span_the_whole_range(tmp_path):
    values = (grey() * 10 - 7).astype(np.float32)
    found = np.asarray(read_image(written(tmp_path, Image.fromarray(values), "a.tif")))[..., 0]
    assert likeness(found, grey()) > 0.999


def test_floats_that_are_not_finite_have_a_reason(tmp_path):
    values = grey().astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        read_image(written(tmp_path, Image.fromarray(values), "a.tif"))


def test_a_constant_float_picture_is_read(tmp_path):
    flat = Image.fromarray(np.full((8, 8), 7.5, np.float32))
    assert len(read_image(written(tmp_path, flat, "a.tif")).getcolors()) == 1


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 1, 1), (slice(0, 40), slice(0, 60))),
        ((0.25, 0.5, 0.5, 0.25), (slice(20, 30), slice(15, 45))),
        ((-0.5, 0, 1.0, 1), (slice(0, 40), slice(0, 30))),
        ((0.9, 0.9, 9, 9), (slice(36, 40), slice(54, 60))),
        ((0.5, 0.5, 1e-9, 1e-9), (slice(20, 21), slice(30, 31))),
        ((1 - 1e-9, 0, 1, 1), (slice(0, 40), slice(59, 60))),
    ],
)
def test_a_box_is_cut_from_the_upright_picture(box, expected, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(scene())))
    path = written(tmp_path, stored, "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(path, box)), scene()[expected])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0.5, 0.5, 0, 0.1), "has no area"),
        ((0.5, 0.5, -0.2, 0.1), "has no area"),
        ((float("nan"), 0, 1, 1), "has no area"),
        ((1.5, 0, 0.2, 0.2), "outside the picture"),
    ],
)
def test_a_box_without_pixels_has_a_reason(box, reason, tmp_path):
    path = written(tmp_path, Image.fromarray(scene()), "a.png")
    with pytest.raises(ImageError, match=reason):
        read_image(path, box)
