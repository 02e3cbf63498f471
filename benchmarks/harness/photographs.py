"""Real vectors: the demo weights' embeddings of photographs somebody has, and of crops of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

_LEAST_AREA = 0.3
_BATCH = 256


def embed_crops(folder: Path, count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Embed upright crops of 30 % of the area to all of it, photographs in turn: (count, r).

    In the demo weights' own IsoCLIP band, as `find_pairs` gets them. Rows are units.
    """
    from fiftyone_isoclip.encoder import load_clip, read_image
    from fiftyone_isoclip.index.vectors import unit_rows

    clip = load_clip("isoclip-demo", precision="float32")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        raise SystemExit(f"no photographs lie in {folder}")
    draws = np.random.default_rng(seed)
    rows, batch = [], []
    opened: dict[Path, Image.Image] = {}
    for number in range(count):
        path = paths[number % len(paths)]
        if path not in opened:
            opened[path] = read_image(path)
        batch.append(clip.preprocess(_crop(opened[path], draws)))
        if len(batch) == _BATCH or number == count - 1:
            rows.append(clip.image_embeddings(torch.stack(batch)))
            batch = []
    return unit_rows(clip.isoclip()(np.concatenate(rows)))


def _crop(picture: Image.Image, draws: np.random.Generator) -> Image.Image:
    share = np.sqrt(draws.uniform(_LEAST_AREA, 1))
    width, height = (max(1, int(side * share)) for side in picture.size)
    left = int(draws.integers(0, picture.width - width + 1))
    top = int(draws.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))
