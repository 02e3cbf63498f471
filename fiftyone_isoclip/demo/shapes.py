"""Outlines of the objects that a rendered scene shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Points = NDArray[np.float64]
SUPERSAMPLING = 2


def _polar(radius: Callable[[Points], Points], n: int = 72) -> Points:
    """Points of r(theta), theta counted from the top: a function -> (n, 2)."""
    theta = np.linspace(0.0, 2 * np.pi, n, endpoint=False)
    r = radius(theta)
    return np.stack([r * np.sin(theta), -r * np.cos(theta)], axis=1)


def _regular(corners: int) -> Points:
    return _polar(np.ones_like, corners)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -y / 17], axis=1)


def _crescent() -> Points:
    outer = np.linspace(0.25 * np.pi, 1.75 * np.pi, 40)
    inner = outer[::-1]
    left = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    right = np.stack([0.62 * np.cos(inner) + 0.27, 0.68 * np.sin(inner)], axis=1)
    return np.concatenate([left, right])


def _points(*flat: float) -> Points:
    return np.array(flat, dtype=np.float64).reshape(-1, 2)


# Beware: the order is the order of frequency (a long tail), so new shapes go at the end.
OUTLINES: dict[str, Points] = {
    "circle": _regular(48),
    "square": _points(-0.8, -0.8, 0.8, -0.8, 0.8, 0.8, -0.8, 0.8),
    "triangle": _regular(3),
    "star": _polar(lambda t: np.where(np.arange(len(t)) % 2 == 0, 1.0, 0.42), 10),
    "heart": _heart(),
    "house": _points(-0.75, 0.9, -0.75, -0.1, -1, -0.1, 0, -1, 1, -0.1, 0.75, -0.1, 0.75, 0.9),
    "tree": _points(
        -0.15,
        1,
        -0.15,
        0.55,
        -0.8,
        0.55,
        -0.3,
        0,
        -0.6,
        0,
        0,
        -1,
        0.6,
        0,
        0.3,
        0,
        0.8,
        0.55,
        0.15,
        0.55,
        0.15,
        1,
    ),
    "flower": _polar(lambda t: 0.72 + 0.28 * np.cos(6 * t)),
    "hexagon": _regular(6),
    "cross": _points(
        -0.3,
        -1,
        0.3,
        -1,
        0.3,
        -0.3,
        1,
        -0.3,
        1,
        0.3,
        0.3,
        0.3,
        0.3,
        1,
        -0.3,
        1,
        -0.3,
        0.3,
        -1,
        0.3,
        -1,
        -0.3,
        -0.3,
        -0.3,
    ),
    "arrow": _points(-1, -0.25, 0.1, -0.25, 0.1, -0.75, 1, 0, 0.1, 0.75, 0.1, 0.25, -1, 0.25),
    "fish": _points(
        -1,
        -0.55,
        -0.55,
        -0.1,
        -0.1,
        -0.5,
        0.45,
        -0.5,
        1,
        0,
        0.45,
        0.5,
        -0.1,
        0.5,
        -0.55,
        0.1,
        -1,
        0.55,
    ),
    "crescent": _crescent(),
    "bottle": _points(
        -0.15, -1, 0.15, -1, 0.15, -0.5, 0.42, -0.2, 0.42, 1, -0.42, 1, -0.42, -0.2, -0.15, -0.5
    ),
    "diamond": _points(0, -1, 0.65, 0, 0, 1, -0.65, 0),
    "gear": _polar(lambda t: np.where(np.sin(9 * t) > 0, 1.0, 0.74), 108),
    "bolt": _points(0.25, -1, -0.55, 0.15, -0.05, 0.15, -0.25, 1, 0.6, -0.25, 0.08, -0.25),
    "drop": _polar(lambda t: 0.42 + 0.58 * np.abs(np.cos(t / 2)) ** 7 + 0.12 * (1 - np.cos(t)) / 2),
    "boat": _points(
        -1,
        0.35,
        -0.08,
        0.35,
        -0.08,
        -1,
        0.75,
        0.2,
        0.02,
        0.2,
        0.02,
        0.35,
        1,
        0.35,
        0.6,
        0.85,
        -0.6,
        0.85,
    ),
    "cup": _points(-0.7, -0.7, 0.5, -0.7, 0.9, -0.4, 0.85, 0.2, 0.42, 0.35, 0.35, 0.8, -0.5, 0.8),
    "leaf": _points(
        0,
        -1,
        0.4,
        -0.6,
        0.6,
        0,
        0.4,
        0.5,
        0.08,
        0.75,
        0.08,
        1,
        -0.08,
        1,
        -0.08,
        0.75,
        -0.4,
        0.5,
        -0.6,
        0,
        -0.4,
        -0.6,
    ),
    "mountain": _points(-1, 0.7, -0.35, -0.6, -0.05, -0.05, 0.3, -0.9, 1, 0.7),
}
LETTERS = "akmrsx"
OBJECTS: tuple[str, ...] = (*OUTLINES, "ring", *(f"letter {x}" for x in LETTERS))


@cache
def _letter_mask(letter: str) -> Image.Image:
    mask = Image.new("L", (128, 128))
    font = ImageFont.load_default(size=120)
    ImageDraw.Draw(mask).text((64, 64), letter.upper(), fill=255, font=font, anchor="mm")
    return mask


def _turn(points: Points, angle: float, stretch: float) -> Points:
    cos, sin = np.cos(angle), np.sin(angle)
    wide = points * np.array([stretch, 1.0 / stretch])
    turned: Points = wide @ np.array([[cos, sin], [-sin, cos]])
    return turned


def object_mask(kind: str, side: int, angle: float = 0.0, stretch: float = 1.0) -> Image.Image:
    """Draw one object as coverage: a name of OBJECTS -> an L picture (side, side).

    Args:
        kind: A name of OBJECTS.
        side: Pixels of the square picture; the object nearly fills it.
        angle: Rotation in radians.
        stretch: Width over height is multiplied by its square; near 1.
    """
    if kind.startswith("letter "):
        turned = _letter_mask(kind[-1]).rotate(np.degrees(angle), Image.Resampling.BILINEAR)
        return turned.resize((side, side), Image.Resampling.BILINEAR)
    big = side * SUPERSAMPLING
    mask = Image.new("L", (big, big))
    draw = ImageDraw.Draw(mask)
    outline = OUTLINES["circle" if kind == "ring" else kind]
    reach = 0.49 * big / max(stretch, 1 / stretch)
    placed = _turn(outline, angle, stretch) * reach + big / 2
    draw.polygon([(x, y) for x, y in placed.tolist()], fill=255)
    if kind == "ring":
        hole = (placed - big / 2) * 0.55 + big / 2
        draw.polygon([(x, y) for x, y in hole.tolist()], fill=0)
    return mask.resize((side, side), Image.Resampling.BOX)
