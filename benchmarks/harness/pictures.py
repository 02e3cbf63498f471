"""Made inputs for measuring an encoder: JPEGs with the spectrum of photographs, random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_CONTRAST = 45
_FALL = 1.2


def write_photographs(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> list[str]:
    """Write JPEGs of a (width, height), quality 90, each cut from its place in one larger picture.

    The amplitude falls with the frequency to the power of 1.2, as behind a lens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    grey = _one_over_f(width + width // 4, height + height // 4, seed)
    draws = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        left, top = draws.integers(0, width // 4), draws.integers(0, height // 4)
        part = grey[top : top + height, left : left + width]
        gains, offsets = draws.uniform(0.6, 1.1, 3), draws.uniform(90, 150, 3)
        # The channels differ a little in place, as colours at the edges of things do.
        channels = [np.roll(part, 3 * c, axis=1) * gains[c] + offsets[c] for c in range(3)]
        pixels = np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)
        path = folder / f"{number:05}.jpg"
        Image.fromarray(pixels).save(path, quality=90)
        paths.append(str(path))
    return paths


def write_checkpoint(folder: Path, architecture: str) -> str:
    """Write random weights, on which speed does not depend; -> the name that loads them."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / f"{architecture}.safetensors"
    model = open_clip.create_model(architecture, load_weights=False)
    save_file(model.state_dict(), path)
    return f"{architecture}/{path}"


def _one_over_f(width: int, height: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequencies[0, 0] = np.inf
    waves = np.exp(2j * np.pi * draws.random(frequencies.shape)) / frequencies**_FALL
    grey = np.fft.irfft2(waves, s=(height, width)).astype(np.float32)
    return np.asarray(grey * (_CONTRAST / grey.std()))
