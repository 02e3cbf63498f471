"""Small picture galleries, painted by code: every picture different, every run the same."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
from PIL import Image, ImageDraw


def paint_picture(seed: int, side: int = 72) -> Image.Image:
    """A gradient with a few shapes on it."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 256, size=(2, 2, 3)).astype(np.uint8)
    picture = Image.fromarray(corners).resize((side + 8, side), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(2, 6)):
        x, y = random.integers(0, side, 2).tolist()
        size = int(random.integers(10, side // 2))
        colour = tuple(random.integers(0, 256, 3).tolist())
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + size), fill=colour)
    return picture


def paint_gallery(folder: Path, n: int) -> list[Path]:
    """Paint n different pictures into PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:03}.png" for seed in range(n)]
    for seed, path in enumerate(paths):
        paint_picture(seed).save(path)
    return paths


def add_pictures(dataset: fo.Dataset, paths: list[Path]) -> list[str]:
    """Add a sample a picture; -> their ids."""
    ids: list[str] = dataset.add_samples([fo.Sample(filepath=str(path)) for path in paths])
    return ids
