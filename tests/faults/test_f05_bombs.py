"""What would cost gigabytes or minutes is refused before it is decoded; the limits are settings."""

from __future__ import annotations

import re
import struct
from dataclasses import fields

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fiftyone_isoclip.dataset.loading import PixelTransform
from fiftyone_isoclip.encoder import ImageLimits, PixelReader, load_clip, read_image
from fiftyone_isoclip.encoder.fitting import Fit
from fiftyone_isoclip.encoder.images import opened
from fiftyone_isoclip.errors import ImageError, IsoClipError
from tests import corpus
from tests.reads import read_apart
from tests.seeds import SEED
from tests.terminal import isoclip, sentence

pytestmark = pytest.mark.timeout(240)

MEMORY = 400
"""Megabytes, for files of which some would take 5,000 and more."""


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """Those of the corpus: kind -> path."""
    return corpus.make_broken(tmp_path_factory.mktemp("bombs"), SEED, corpus.BOMBS)


@pytest.fixture(scope="module")
def reader():
    """A reader for a tower of the usual size."""
    return PixelReader(Fit(224, 224), load_clip("isoclip-demo", device="cpu").preprocess)


@pytest.mark.parametrize(
    "door",
    [
        "tower",
        pytest.param("image", marks=pytest.mark.long),
        pytest.param("keepers", marks=pytest.mark.long),
    ],
)
def test_f05_bombs_are_refused_in_a_process_with_little_memory(door, bombs):
    found, taken = read_apart(bombs.values(), door, MEMORY)
    for kind, path in bombs.items():
        told = found[str(path)]
        expected = "cannot be decoded" if door == "keepers" else corpus.BOMBS[kind][1]
        assert re.search(expected, str(told), re.IGNORECASE), (kind, told)
    assert taken < MEMORY / 4


def _save(path, width, height):
    Image.new("1", (width, height)).save(path)
    return path


@pytest.mark.parametrize(
    ("variable", "value", "size", "reason"),
    [
        ("FILE_BYTES", "60", (40, 40), "the file has more than 60 bytes"),
        ("PIXELS", "1599", (40, 40), "40 x 40 is more than 1,599 pixels"),
        ("ASPECT", "3.5", (40, 11), "one side is over 3.5 times the other"),
        ("RESIZED_PIXELS", "50175", (40, 40), "resized to 224 x 224 it has more than 50,175 pix"),
    ],
)
def test_f05_every_limit_is_a_setting(variable, value, size, reason, tmp_path, monkeypatch):
    path = _save(tmp_path / "a.png", *size)
    assert isinstance(PixelReader(Fit(224, 224), None).read(path)[0], torch.Tensor)
    monkeypatch.setenv(f"FIFTYONE_ISOCLIP_MAX_{variable}", value)
    (found,) = PixelReader(Fit(224, 224), None).read(path)
    assert isinstance(found, str)
    assert reason in found


def test_f05_the_limit_on_scans_is_a_setting(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "a.jpg", progressive=True)
    assert read_image(tmp_path / "a.jpg").size == (40, 40)
    monkeypatch.setenv("FIFTYONE_ISOCLIP_MAX_JPEG_SCANS", "5")
    with pytest.raises(ImageError, match="more than 5 scans"):
        read_image(tmp_path / "a.jpg")


def test_f05_limits_can_be_raised_beyond_pillows_own(tmp_path, monkeypatch):
    guard = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", guard)  # to be put back afterwards
    path = corpus.make_broken(tmp_path, SEED, corpus.BOMBS)["30000 x 30000"]
    monkeypatch.setenv("FIFTYONE_ISOCLIP_MAX_PIXELS", "1_000_000_000")
    with opened(path, ImageLimits.from_environment()) as image:
        assert image.size == (30_000, 30_000)


def test_f05_with_every_shape_allowed_the_resized_area_still_holds(bombs, monkeypatch, reader):
    monkeypatch.setenv("FIFTYONE_ISOCLIP_MAX_ASPECT", "1e6")
    limits = ImageLimits.from_environment()
    for kind, shape in {"20000 x 1": "4480000 x 224", "1 x 20000": "224 x 4480000"}.items():
        (found,) = PixelReader(reader.fit, reader.own, limits=limits).read(bombs[kind])
        assert found == f"resized to {shape} it has more than 16,777,216 pixels"


@pytest.mark.parametrize("text", ["many", "0", "-5", "nan", "inf", "1.5e"])
@pytest.mark.parametrize("field", [field.name for field in fields(ImageLimits)])
def test_f05_a_limit_that_is_none_is_refused(field, text, tmp_path, monkeypatch):
    name = f"FIFTYONE_ISOCLIP_MAX_{field.upper()}"
    path = _save(tmp_path / "a.png", 4, 4)
    monkeypatch.setenv(name, text)
    with pytest.raises(IsoClipError, match=f"{name} is '{re.escape(text)}', which is no limit"):
        read_image(path)


def test_f05_a_command_says_which_limit_is_none(tmp_path, monkeypatch):
    path = _save(tmp_path / "a.png", 4, 4)
    monkeypatch.setenv("FIFTYONE_ISOCLIP_MAX_PIXELS", "lots")
    told = sentence(isoclip("embed", path, "--out", tmp_path / "e.npz"))
    assert "FIFTYONE_ISOCLIP_MAX_PIXELS is 'lots'" in told
    assert "unset it for the default of 89,478,485" in told


def test_f05_an_empty_variable_is_the_default(monkeypatch):
    monkeypatch.setenv("FIFTYONE_ISOCLIP_MAX_PIXELS", "")
    assert ImageLimits.from_environment() == ImageLimits()


def test_f05_the_limits_hold_for_pictures_that_come_decoded(reader):
    transform = PixelTransform(reader)
    strip = np.zeros((1, 20_000, 3), np.uint8)
    for image in (strip, Image.fromarray(strip), torch.zeros(3, 1, 20_000)):
        with pytest.raises(ImageError, match="one side is over 100 times the other"):
            transform(image)


def test_f05_the_limits_hold_for_a_crop(tmp_path, reader):
    path = _save(tmp_path / "a.png", 2000, 30)
    found = reader.read(path, [(0, 0.5, 1, 0.01), None])
    assert found[0] == "2000 x 1: one side is over 100 times the other"
    assert isinstance(found[1], torch.Tensor)
    with pytest.raises(ImageError, match="one side is over 100"):
        read_image(path, (0, 0.5, 1, 0.01))


def test_f05_scans_in_notes_and_behind_the_end_do_not_count(tmp_path):
    Image.new("L", (40, 40)).save(tmp_path / "a.jpg")
    plain = (tmp_path / "a.jpg").read_bytes()
    notes = b"\xff\xfe\x0f\xff" + b"\xff\xda" * 2046 + b"."
    (tmp_path / "a.jpg").write_bytes(plain[:2] + notes + plain[2:] + b"\xff\xda\0\2" * 50_000)
    assert read_image(tmp_path / "a.jpg").size == (40, 40)


# Pillow reads no BigTIFF whose bytes come in the other order.
@pytest.mark.parametrize(("order", "large"), [("<", False), (">", False), ("<", True)])
def test_f05_a_directory_may_not_name_more_than_the_file_holds(order, large, tmp_path):
    path = tmp_path / "a.tif"
    note = (65_000, 1, 5000, bytes(5000), False)
    right = np.arange(4800, dtype=np.uint8).reshape(40, 40, 3)
    tifffile.imwrite(
        path, right, bigtiff=large, byteorder=order, photometric="rgb", extratags=[note]
    )
    assert np.array_equal(np.asarray(read_image(path)), right)
    count = order + ("HHQ" if large else "HHI")
    content = path.read_bytes()
    assert content.count(struct.pack(count, 65_000, 1, 5000)) == 1
    swollen = struct.pack(count, 65_000, 1, 2_000_000_000)
    path.write_bytes(content.replace(struct.pack(count, 65_000, 1, 5000), swollen))
    with pytest.raises(ImageError, match="names more than the file holds"):
        read_image(path)
