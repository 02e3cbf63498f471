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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.ppm", {}),
        ("a.tif", {}),
        ("a.webp", {"lossless": True}),
        ("a.jpg", {"quality": 95}),
        ("a.jp2", {}),
        ("a.avif", {"quality": 95}),
    ],
)
def test_formats_are_read_as_they_are(name, options, tmp_path):
    image = read_image(written(tmp_path, Image.fromarray(scene()), name, **options))
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert np.abs(np.asarray(image, int) - scene()).mean() < 3


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_f06_exif_orientation_is_applied(orientation, name, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](scene())))
    image = read_image(written(tmp_path, stored, name, exif=exif, quality=95))
    assert image.size == (60, 40)
    assert likeness(image, scene()) > 0.99


def test_f06_damaged_notes_do_not_lose_the_picture(tmp_path):
    path = written(tmp_path, Image.fromarray(scene()), "a.jpg", exif=b"Exif\x00\x00garbage")
    assert read_image(path).size == (60, 40)


def test_f06_cmyk(tmp_path):
    path = written(tmp_path, Image.fromarray(scene()).convert("CMYK"), "a.jpg", quality=95)
    assert likeness(read_image(path), scene()) > 0.99


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_f06_sixteen_bits_are_scaled_and_not_clipped(name, tmp_path):
    wide = np.rint(grey() * 65535).astype(np.uint16)
    found = np.asarray(read_image(written(tmp_path, Image.fromarray(wide), name)), int)
    assert np.array_equal(found, np.repeat(np.rint(wide / 257).astype(int)[..., None], 3, 2))


def test_f06_sixteen_bit_colour(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="Pillow cannot write 16-bit colour")
    cv2.imwrite(str(tmp_path / "a.png"), scene()[..., ::-1].astype(np.uint16) * 257)
    assert np.abs(np.asarray(read_image(tmp_path / "a.png"), int) - scene()).max() <= 1


@pytest.mark.parametrize("scale", [1.0, 255.0, 1e-30, 1e6])
def test_f06_floats(scale, tmp_path):
    values = (grey() * scale).astype(np.float32)
    found = np.asarray(read_image(written(tmp_path, Image.fromarray(values), "a.tif")))[..., 0]
    if scale == 1:
        assert np.abs(found / 255 - grey()).max() < 0.003
    elif scale > 1:
        assert (found.min(), found.max()) == (0, 255)
        assert likeness(found, grey()) > 0.999


def test_f06_negative_floats_span_the_whole_range(tmp_path):
    values = (grey() * 10 - 7).astype(np.float32)
    found = np.asarray(read_image(written(tmp_path, Image.fromarray(values), "a.tif")))[..., 0]
    assert likeness(found, grey()) > 0.999


def test_f06_floats_that_are_not_finite_have_a_reason(tmp_path):
    values = grey().astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        read_image(written(tmp_path, Image.fromarray(values), "a.tif"))


def test_f06_a_constant_float_picture_is_read(tmp_path):
    flat = Image.fromarray(np.full((8, 8), 7.5, np.float32))
    assert len(read_image(written(tmp_path, flat, "a.tif")).getcolors()) == 1


def test_f06_palette(tmp_path):
    path = written(tmp_path, Image.fromarray(scene()).quantize(256), "a.png")
    assert likeness(read_image(path), scene()) > 0.99


@pytest.mark.parametrize(("mode", "name"), [("RGBA", "a.png"), ("RGBA", "a.webp"), ("LA", "a.png")])
def test_f06_transparent_parts_are_white(mode, name, tmp_path):
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:20] = 0
    picture = Image.fromarray(scene()).convert(mode)
    picture.putalpha(Image.fromarray(alpha))
    found = np.asarray(read_image(written(tmp_path, picture, name, lossless=True)))
    assert (found[:20] == 255).all()
    expected = np.asarray(Image.fromarray(scene()).convert(mode).convert("RGB"))
    assert np.abs(found[20:].astype(int) - expected[20:]).max() <= 1


def test_f06_a_transparent_palette_colour_is_white(tmp_path):
    picture = Image.fromarray(np.repeat([[0, 1]], 8, axis=0).astype(np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    found = np.asarray(read_image(written(tmp_path, picture, "a.png", transparency=0)))
    assert found[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_f06_one_bit(tmp_path):
    picture = Image.fromarray(grey() > 0.5)
    found = np.asarray(read_image(written(tmp_path, picture, "a.png")))
    assert np.array_equal(found[..., 0], np.where(grey() > 0.5, 255, 0))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_f06_of_an_animation_the_first_frame(name, tmp_path):
    first, second = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    path = written(tmp_path, first, name, save_all=True, append_images=[second])
    red, _, blue = np.asarray(read_image(path)).mean(axis=(0, 1))
    assert red > 200 > 50 > blue


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


@pytest.mark.parametrize(
    "name", ["ünï côdé.png", "a b.png", "a\nb.png", "'\".png", "x" * 251 + ".png", "a.PNG", "none"]
)
def test_f07_odd_names_work(name, tmp_path):
    Image.fromarray(scene()).save(tmp_path / name, format="PNG")
    assert read_image(tmp_path / name).size == (60, 40)
    assert read_image(str(tmp_path / name)).size == (60, 40)
