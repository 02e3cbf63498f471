"""Pictures for tests: as many different ones as wanted, each drawn from its seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fiftyone_isoclip.demo.scenes import render_scene


def draw(path: Path, seed: int, side: int = 64) -> str:
    """Draw a picture of 4 x 4 random colours; -> its path."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST).save(path)
    return str(path)


def draw_many(folder: Path, count: int, first_seed: int = 0) -> list[str]:
    """Draw pictures that have nothing to do with each other."""
    folder.mkdir(parents=True, exist_ok=True)
    return [draw(folder / f"{n:03d}.png", n) for n in range(first_seed, first_seed + count)]


def recompress(source: str, path: Path, quality: int = 85) -> str:
    """Save a picture again as a JPEG file: nearly the same to the eye, other bytes; -> its path."""
    with Image.open(source) as picture:
        picture.convert("RGB").save(path, quality=quality)
    return str(path)


def render_photos(folder: Path) -> Path:
    """A folder `photos` of six scenes, the first of them again as a JPEG; -> that folder."""
    photos = folder / "photos"
    photos.mkdir()
    for seed in range(6):
        render_scene(seed, 128).image.save(photos / f"{seed}.png")
    render_scene(0, 128).image.save(photos / "0-again.jpg", quality=92)
    return photos
