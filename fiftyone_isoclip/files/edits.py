"""Edits: what happens to a picture between being taken and being found a second time."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from fiftyone_isoclip.errors import ImageError

Rng = np.random.Generator
Change = Callable[[Image.Image, Rng], Image.Image]

_PAPER = (238, 238, 240)
_BAR = (46, 92, 160)


def _encoded(image: Image.Image, form: str, **options: int | bool) -> Image.Image:
    """The picture as it comes back from a file of another format or quality."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    buffer.seek(0)
    with Image.open(buffer, formats=[form]) as decoded:
        return decoded.convert("RGB")


def _resized(image: Image.Image, share: float) -> Image.Image:
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, rng: Rng, area: float) -> Image.Image:
    """A window of the same aspect that keeps this share of the area, anywhere."""
    side = area**0.5
    width, height = round(image.width * side), round(image.height * side)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _noisy(image: Image.Image, rng: Rng) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    grain = rng.normal(0, 20, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _tilted(image: Image.Image, rng: Rng) -> Image.Image:
    angle = float(rng.choice([-5, 5]))
    return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))


def _captioned(image: Image.Image, rng: Rng) -> Image.Image:
    """The lowest seventh hidden by a black bar with a line of text."""
    marked = image.copy()
    high = max(8, image.height // 7)
    draw = ImageDraw.Draw(marked)
    draw.rectangle((0, image.height - high, image.width, image.height), fill="black")
    font = ImageFont.load_default(size=max(6, high // 2))
    text = f"COPY {int(rng.integers(1000, 10000))}"
    draw.text((high // 2, image.height - high + high // 5), text, fill="white", font=font)
    return marked


def _screenshot(image: Image.Image, rng: Rng) -> Image.Image:
    """The picture shown in a larger window with a title bar."""
    # Two rows more at the least: the bar, and one that the picture leaves below itself.
    width, height = round(image.width * 1.5), max(round(image.height * 1.6), image.height + 2)
    window = Image.new("RGB", (width, height), _PAPER)
    bar = height // 12
    ImageDraw.Draw(window).rectangle((0, 0, width, bar), fill=_BAR)
    left = (width - image.width) // 2
    top = int(rng.integers(bar + 1, height - image.height))
    window.paste(image, (left, top))
    return window


def _combined(image: Image.Image, rng: Rng) -> Image.Image:
    """Several changes at once: a crop, a tint of light, a smaller size, recompression."""
    cut = _cropped(image, rng, 0.7)
    light = ImageEnhance.Brightness(cut).enhance(float(rng.uniform(0.75, 1.25)))
    return _encoded(_resized(light, 0.6), "JPEG", quality=40)


# Each takes an RGB picture; equal generators give equal copies.
EDITS: dict[str, Change] = {
    "recompressed": lambda image, rng: _encoded(image, "JPEG", quality=30),
    "strongly recompressed": lambda image, rng: _encoded(image, "JPEG", quality=8),
    "as png": lambda image, rng: _encoded(image, "PNG"),
    "as webp": lambda image, rng: _encoded(image, "WEBP", quality=80),
    "half size": lambda image, rng: _resized(image, 0.5),
    "quarter size": lambda image, rng: _resized(image, 0.25),
    "grey": lambda image, rng: ImageOps.grayscale(image).convert("RGB"),
    "brighter": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.5),
    "darker": lambda image, rng: ImageEnhance.Brightness(image).enhance(0.5),
    "more contrast": lambda image, rng: ImageEnhance.Contrast(image).enhance(1.8),
    "saturated": lambda image, rng: ImageEnhance.Color(image).enhance(2.0),
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(image.width / 90)),
    "noisy": _noisy,
    "crop 90": lambda image, rng: _cropped(image, rng, 0.9),
    "crop 70": lambda image, rng: _cropped(image, rng, 0.7),
    "crop 50": lambda image, rng: _cropped(image, rng, 0.5),
    "crop 30": lambda image, rng: _cropped(image, rng, 0.3),
    "tilted": _tilted,
    "quarter turn": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "caption bar": _captioned,
    "screenshot": _screenshot,
    "combined": _combined,
}


def edit_image(image: Image.Image, kind: str, seed: int) -> Image.Image:
    """Make one near copy: a picture -> an RGB picture; equal seeds, equal copies.

    Args:
        image: The picture, of any mode.
        kind: A name of EDITS.
        seed: Decides where a crop lies, which way a tilt goes, and the grain.

    Raises:
        ImageError: the edit cannot be made of this picture.
    """
    edit = EDITS[kind]
    try:
        return edit(image.convert("RGB"), np.random.default_rng(seed))
    except Exception as error:  # of whatever sort: it is to cost this picture and no other
        size = f"{image.width} x {image.height}"
        raise ImageError(f"{kind!r} cannot be made of a picture of {size}: {error}") from error
