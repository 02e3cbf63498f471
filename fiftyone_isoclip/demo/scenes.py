"""Rendered scenes with captions: what the self-trained demo weights are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fiftyone_isoclip.demo.shapes import OBJECTS, object_mask
from fiftyone_isoclip.demo.textures import TEXTURES, clouds, paint

Pixels = NDArray[np.float32]
Rng = np.random.Generator

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 35, 40),
    "blue": (40, 75, 200),
    "green": (50, 150, 55),
    "yellow": (240, 210, 50),
    "white": (240, 240, 236),
    "black": (26, 26, 30),
    "orange": (240, 130, 30),
    "purple": (125, 50, 160),
    "grey": (128, 128, 128),
    "brown": (115, 72, 38),
    "pink": (245, 150, 185),
    "teal": (25, 145, 150),
}
# Where the object's middle lies, as fractions of width and height.
PLACES: dict[str, tuple[float, float]] = {
    "in the centre": (0.5, 0.5),
    "on the left": (0.3, 0.5),
    "on the right": (0.7, 0.5),
    "at the top": (0.5, 0.3),
    "at the bottom": (0.5, 0.7),
    "in the top left corner": (0.3, 0.3),
    "in the top right corner": (0.7, 0.3),
    "in the bottom left corner": (0.3, 0.7),
    "in the bottom right corner": (0.7, 0.7),
}
FRAMES = ("", "a picture of ", "a photo of ", "an image of ")


@dataclass(frozen=True, slots=True)
class Scene:
    """A rendered picture and what is said of it.

    Attributes:
        image: RGB, square.
        caption: Names some of the attributes, never all of them for certain.
        attributes: object, colour, texture, background (a texture), background_colour,
            place, and companion (a second object, or "none").
        box: The object's bounding box: x, y, width, height as fractions of the picture.
    """

    image: Image.Image
    caption: str
    attributes: dict[str, str]
    box: tuple[float, float, float, float]


def _pick(names: tuple[str, ...], rng: Rng, exponent: float = 0.6) -> str:
    """One name; the n-th is as frequent as n ** -exponent (a long tail)."""
    weights = np.arange(1, len(names) + 1, dtype=np.float64) ** -exponent
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


@dataclass(frozen=True, slots=True)
class _Item:
    """One object to be drawn: where its middle lies, and how large it is, as fractions."""

    kind: str
    texture: str
    colour: Pixels
    spot: NDArray[np.float64]
    radius: float
    upright: bool = False


def _shade(colour: str, rng: Rng, spread: float = 0.05) -> Pixels:
    """A colour near the named one, (3,) in 0..1."""
    exact = np.array(COLOURS[colour], dtype=np.float32) / 255
    drift = rng.normal(0, spread, 3) + rng.normal(0, spread)
    return np.asarray(np.clip(exact + drift, 0, 1), dtype=np.float32)


def _any_colour(rng: Rng) -> Pixels:
    """A colour without a name, (3,) in 0..1, more often dull than bright."""
    grey = rng.random()
    hue = rng.random(3)
    colour = grey + (hue - hue.mean()) * rng.beta(1.2, 2.0) * 1.4
    return np.asarray(colour.clip(0, 1), dtype=np.float32)


def _partner(colour: Pixels, rng: Rng) -> Pixels:
    """The second colour of a texture: the first one, darker or lighter."""
    towards = 0.0 if colour.mean() > rng.uniform(0.3, 0.7) else 1.0
    share = rng.uniform(0.35, 0.75)
    return (colour + (towards - colour) * share).astype(np.float32)


def _place(canvas: Pixels, item: _Item, rng: Rng) -> None:
    """Draw one object with its shadow and its own shading into the canvas."""
    size = canvas.shape[0]
    side = max(6, int(2 * item.radius * size))
    turn = rng.normal(0, 0.15) if item.upright else rng.uniform(0, 2 * np.pi)
    mask = object_mask(item.kind, side, turn, float(np.exp(rng.normal(0, 0.1))))
    left, top = (int(v * size - side / 2) for v in item.spot)
    if rng.random() < 0.5:
        shadow = mask.filter(ImageFilter.GaussianBlur(side * 0.06))
        shift = max(1, int(side * 0.05))
        _blend(canvas, np.zeros(3, np.float32), _coverage(shadow, 0.45), left + shift, top + shift)
    surface = paint(item.texture, side, (item.colour, _partner(item.colour, rng)), rng)
    if rng.random() < 0.6:
        folds = clouds(side, np.random.default_rng(rng.integers(2**62)), 0.4, 3)
        surface = surface * (0.7 + 0.45 * folds)[..., None]
    _blend(canvas, surface, _coverage(mask, 1.0), left, top)


def _coverage(mask: Image.Image, most: float) -> Pixels:
    """How much of each pixel is covered: an L picture -> (h, w) in 0..most."""
    return np.asarray(mask, dtype=np.float32) / np.float32(255) * np.float32(most)


def _blend(canvas: Pixels, surface: Pixels, coverage: Pixels, left: int, top: int) -> None:
    """Lay a surface over the canvas where it is covered, cut at the canvas's edges."""
    size, side = canvas.shape[0], coverage.shape[0]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, size), min(top + side, size)
    if x0 >= x1 or y0 >= y1:
        return
    cut = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    over = surface[cut] if surface.ndim == 3 else surface
    alpha = coverage[cut][..., None]
    target = canvas[y0:y1, x0:x1]
    target += alpha * (over - target)


def _light(canvas: Pixels, rng: Rng) -> Pixels:
    """Uneven light, a tint and grain over the whole picture."""
    size = canvas.shape[0]
    if rng.random() < 0.6:
        glow = clouds(size, rng, 0.3, 2)[..., None]
        canvas = canvas * (1 - np.float32(rng.uniform(0.1, 0.45)) * glow)
    tint = 1 + rng.normal(0, 0.03, 3).astype(np.float32)
    grain = rng.normal(0, rng.uniform(0, 0.025), canvas.shape).astype(np.float32)
    return np.asarray(np.clip(canvas * tint + grain, 0, 1), dtype=np.float32)


def _choose(rng: Rng) -> dict[str, str]:
    """Draw the attributes of one scene, long-tailed."""
    colour, textures = _pick(tuple(COLOURS), rng), tuple(TEXTURES)
    rest = tuple(name for name in COLOURS if name != colour)
    return {
        "object": _pick(OBJECTS, rng),
        "colour": colour,
        "texture": _pick(textures, rng),
        "background": _pick(textures, rng, 0.3),
        "background_colour": rest[int(rng.integers(len(rest)))],
        "place": _pick(tuple(PLACES), rng, 0.3),
        "companion": _pick(OBJECTS, rng) if rng.random() < 0.35 else "none",
    }


def _describe(attributes: dict[str, str], rng: Rng) -> str:
    """A caption that names the object and some of the other attributes."""
    said = {
        name: rng.random() < share
        for name, share in (
            ("colour", 0.75),
            ("texture", 0.55),
            ("place", 0.4),
            ("companion", 0.6),
            ("background", 0.5),
            ("background_colour", 0.5),
        )
    }
    words = [attributes[name] for name in ("colour", "texture") if said[name]]
    caption = " ".join(["a", *words, attributes["object"]])
    if said["companion"] and attributes["companion"] != "none":
        caption += f" and a {attributes['companion']}"
    if said["place"]:
        caption += f" {attributes['place']}"
    ground = [attributes[name] for name in ("background_colour", "background") if said[name]]
    if ground:
        caption += " ".join([" on a", *ground, "background"])
    return FRAMES[int(rng.integers(len(FRAMES)))] + caption


def _scatter(canvas: Pixels, rng: Rng) -> None:
    """Draw small things that no caption names."""
    for _ in range(int(rng.integers(0, 14) * rng.random())):
        kind, texture = OBJECTS[rng.integers(len(OBJECTS))], _pick(tuple(TEXTURES), rng, 0.3)
        colour, spot = _any_colour(rng), rng.random(2)
        _place(canvas, _Item(kind, texture, colour, spot, rng.uniform(0.03, 0.13)), rng)


def _occlude(canvas: Pixels, rng: Rng) -> None:
    """Sometimes draw a small plain thing over everything else."""
    if rng.random() < 0.25:
        kind, colour = OBJECTS[rng.integers(len(OBJECTS))], _any_colour(rng)
        spot, radius = rng.random(2), rng.uniform(0.03, 0.09)
        _place(canvas, _Item(kind, "plain", colour, spot, radius), rng)


def render_scene(seed: int, size: int = 256) -> Scene:
    """Render one scene: a seed -> a square RGB picture with its caption; equal seeds, equal scenes.

    Args:
        seed: Decides everything but the resolution.
        size: Pixels on a side.
    """
    rng = np.random.default_rng(seed)
    attributes = _choose(rng)
    caption = _describe(attributes, rng)
    ground = _shade(attributes["background_colour"], rng)
    canvas = paint(attributes["background"], size, (ground, _partner(ground, rng)), rng)
    _scatter(canvas, rng)
    middle = np.array(PLACES[attributes["place"]]) + rng.uniform(-0.05, 0.05, 2)
    if attributes["companion"] != "none":
        other = np.clip(1 - middle + rng.normal(0, 0.12, 2), 0.1, 0.9)
        texture, colour = _pick(tuple(TEXTURES), rng), _any_colour(rng)
        radius = rng.uniform(0.1, 0.2)
        _place(canvas, _Item(attributes["companion"], texture, colour, other, radius, True), rng)
    radius = rng.uniform(0.17, 0.34)
    colour = _shade(attributes["colour"], rng)
    main = _Item(attributes["object"], attributes["texture"], colour, middle, radius, True)
    _place(canvas, main, rng)
    _occlude(canvas, rng)
    pixels = (_light(canvas, rng) * 255).astype(np.uint8)
    box = (float(middle[0] - radius), float(middle[1] - radius), 2 * radius, 2 * radius)
    return Scene(Image.fromarray(pixels), caption, attributes, box)
