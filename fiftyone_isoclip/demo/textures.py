"""Procedural surfaces of a rendered scene: fields in 0..1 that blend two colours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
Rng = np.random.Generator


def clouds(side: int, rng: Rng, roughness: float = 0.55, finest: int = 5) -> Field:
    """Fractal noise in 0..1, (side, side): octaves of random grids, each finer and weaker."""
    total = np.zeros((side, side), dtype=np.float32)
    weight = 1.0
    for octave in range(1, finest + 1):
        cells = min(2**octave + 1, side)
        grid = rng.random((cells, cells), dtype=np.float32)
        layer = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
        total += weight * np.asarray(layer)
        weight *= roughness
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _coordinates(side: int, rng: Rng) -> tuple[Field, Field]:
    """Turned coordinates in -1..1 over the square, two fields (side, side)."""
    angle = rng.uniform(0, np.pi)
    line = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _wave(position: Field, rng: Rng, low: float = 2.0, high: float = 7.0) -> Field:
    wave: Field = np.sin(position * np.float32(np.pi * rng.uniform(low, high)) + rng.uniform(0, 6))
    return wave


def _step(field: Field, sharpness: float = 6.0) -> Field:
    step: Field = np.clip(0.5 + sharpness * field, 0, 1)
    return step


def _plain(side: int, rng: Rng) -> Field:
    return clouds(side, rng, 0.5, 3) * np.float32(0.12)


def _striped(side: int, rng: Rng) -> Field:
    return _step(_wave(_coordinates(side, rng)[0], rng) - np.float32(rng.uniform(-0.4, 0.4)))


def _checkered(side: int, rng: Rng) -> Field:
    x, y = _coordinates(side, rng)
    turns = np.float32(np.pi * rng.uniform(1.5, 5))
    return _step(np.sin(x * turns) * np.sin(y * turns))


def _dotted(side: int, rng: Rng) -> Field:
    x, y = _coordinates(side, rng)
    turns = np.float32(np.pi * rng.uniform(2.5, 7))
    return _step(np.sin(x * turns) * np.sin(y * turns) - np.float32(rng.uniform(0.3, 0.6)))


def _cloudy(side: int, rng: Rng) -> Field:
    return clouds(side, rng, rng.uniform(0.4, 0.8))


def _speckled(side: int, rng: Rng) -> Field:
    cells = max(4, int(side * rng.uniform(0.25, 0.7)))
    grid = (rng.random((cells, cells)) < rng.uniform(0.15, 0.4)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((side, side), Image.Resampling.BILINEAR))


def _gradient(side: int, rng: Rng) -> Field:
    gradient: Field = np.clip(_coordinates(side, rng)[0] * 0.5 + 0.5, 0, 1)
    return gradient


def _marbled(side: int, rng: Rng) -> Field:
    x, _ = _coordinates(side, rng)
    bent = x + np.float32(rng.uniform(0.5, 1.5)) * clouds(side, rng, 0.6)
    return np.abs(_wave(bent, rng, 1.5, 4))


def _blotched(side: int, rng: Rng) -> Field:
    return _step(clouds(side, rng, 0.5, 4) - 0.5, 10)


def _tiled(side: int, rng: Rng) -> Field:
    x, y = _coordinates(side, rng)
    turns = np.float32(np.pi * rng.uniform(1, 4))
    line = np.minimum(np.abs(np.sin(x * turns)), np.abs(np.sin(y * turns)))
    joints: Field = np.clip(line * np.float32(rng.uniform(5, 12)), 0, 1)
    return 1 - joints


def _woven(side: int, rng: Rng) -> Field:
    x, y = _coordinates(side, rng)
    return 0.5 + 0.25 * (_wave(x, rng, 5, 11) + _wave(y, rng, 5, 11))


# The order is the order of frequency in captions.
TEXTURES: dict[str, Callable[[int, Rng], Field]] = {
    "plain": _plain,
    "striped": _striped,
    "cloudy": _cloudy,
    "checkered": _checkered,
    "dotted": _dotted,
    "gradient": _gradient,
    "speckled": _speckled,
    "marbled": _marbled,
    "blotched": _blotched,
    "tiled": _tiled,
    "woven": _woven,
}


def paint(texture: str, side: int, colours: tuple[Field, Field], rng: Rng) -> Field:
    """Blend two colours, (3,) in 0..1 each, by a texture: -> (side, side, 3) in 0..1."""
    own = np.random.default_rng(rng.integers(2**62))  # draws no more at a higher resolution
    field = TEXTURES[texture](side, own)[..., None]
    first, second = colours
    return np.array(first + field * (second - first), dtype=np.float32)
