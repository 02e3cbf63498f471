"""Resize and crop on 8-bit pixels, against open_clip's own transform for the same settings."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from fiftyone_isoclip.encoder.fitting import find_fit
from fiftyone_isoclip.encoder.towers import Tower
from fiftyone_isoclip.projector import Head

COMMON = {"mode": "RGB", "mean": (0.48, 0.45, 0.41), "std": (0.27, 0.26, 0.28)}
SETTINGS = {
    "clip": {"size": 224},
    "square tuple": {"size": (64, 64)},
    "as read from a file": {"size": [64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "bilinear": {"size": 64, "interpolation": "bilinear"},
    "random is bicubic": {"size": 64, "interpolation": "random"},
    "siglip": {"size": 224, "resize_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "squash": {"size": (48, 80), "resize_mode": "squash", "interpolation": "bilinear"},
    "longest": {"size": 96, "resize_mode": "longest"},
    "longest, filled": {"size": (64, 80), "resize_mode": "longest", "fill_color": 255},
    "not square": {"size": (64, 80), "interpolation": "bilinear"},
}
SIZES = [(97, 61), (50, 83), (640, 480), (300, 640), (333, 1000), (3000, 31), (1, 1), (65, 64)]


def own_transform(settings):
    others = {name: value for name, value in settings.items() if name not in ("size", "mode")}
    return open_clip.image_transform(settings["size"], is_train=False, **others)


def smooth(width, height):
    """A picture that fills the range without edges: (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 9 + y / 31), np.sin(x / 23 - y / 7), np.cos((x + y) / 15)]
    return np.rint(127.5 * (1 + np.stack(waves, axis=2))).astype(np.uint8)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("size", SIZES)
def test_every_setting_agrees_within_two_levels(name, size):
    """Two passes round to 8 bits. A level in the first can weigh up to 1.3 in a bicubic second.

    Rounding adds at most one to that: two whole levels at the most, and those are rare.
    """
    settings = COMMON | SETTINGS[name]
    own = own_transform(settings)
    fit = find_fit(settings, own)
    pixels = smooth(*size)
    expected = own(Image.fromarray(pixels))
    mean, std = (torch.tensor(settings[part]).view(3, 1, 1) for part in ("mean", "std"))
    found = fit(torch.from_numpy(pixels))
    assert found.shape == expected.shape
    assert found.is_contiguous()
    levels = ((expected * std + mean) * 255 - found).abs()
    assert levels.max() < 2.01
    assert (levels > 1.01).float().mean() < 5e-4
    assert (levels > 0.5).float().mean() < 0.03


def moved(own):
    """As an open_clip of the future might: one pixel to the side."""
    return lambda picture: torch.roll(own(picture), 1, dims=2)


@pytest.mark.parametrize("change", [moved, lambda own: lambda picture: own(picture)[:, 1:]])
def test_a_transform_that_does_something_else_has_no_fit(change, caplog):
    settings = COMMON | SETTINGS["clip"]
    assert find_fit(settings, change(own_transform(settings))) is None
    assert "a way of its own" in caplog.text


def test_an_unknown_way_to_resize_has_no_fit():
    settings = COMMON | {"size": 64, "resize_mode": "mirrored"}
    assert find_fit(settings, own_transform(COMMON | {"size": 64})) is None


def test_bytes_are_normalised_on_the_device_as_open_clip_does_it():
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    parts = (COMMON["mean"], COMMON["std"])
    head = Head.identity(768)
    tower = Tower(
        lambda pixels, normalize: pixels.flatten(1),
        head,
        torch.device("cpu"),
        torch.float32,
        parts,
    )
    mean, std = (torch.tensor(part, dtype=torch.float64).view(3, 1, 1) for part in parts)
    expected = (levels.double() / 255 - mean) / std
    np.testing.assert_allclose(tower(levels), expected.flatten(1), atol=5e-7)
    assert np.array_equal(tower(expected.float()), expected.float().flatten(1).numpy())
