"""open_clip's resize and crop for inference, done on 8-bit pixels."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from fiftyone_isoclip.errors import CheckpointError

_SINCE_13 = int(PIL.__version__.split(".")[0]) >= 13

logger = logging.getLogger(__name__)

OwnTransform = Callable[[Image.Image], Tensor]
"""open_clip's transform for inference: an RGB picture -> (3, h, w) float32, normalised."""

_TRIALS = ((97, 61), (50, 83))
"""Sizes of the pictures, smaller and larger than most targets, on which a fit is tried."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture of any size becomes one of the size that a tower takes.

    ``height`` and ``width`` are the tower's. ``resize_mode`` is "shortest" (fill, then crop the
    centre), "longest" (fit in, then pad with ``fill``, 0 to 255) or "squash".
    """

    height: int
    width: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Fit:
        """Read it from open_clip's ``preprocess_cfg``."""
        size = settings["size"]
        height, width = (size, size) if isinstance(size, int) else size
        mode = settings.get("resize_mode") or "shortest"
        kept_shape = mode == "shortest" and height != width
        # open_clip resizes to a shape that is not square with its default, whatever was asked for.
        smooth = "bilinear" if settings.get("interpolation") == "bilinear" else "bicubic"
        kind = "bicubic" if kept_shape else smooth
        return cls(height, width, mode, kind, settings.get("fill_color") or 0)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The height and width to which a picture is resized before it is cropped or padded."""
        if self.resize_mode == "squash":
            return self.height, self.width
        if self.resize_mode == "shortest" and self.height == self.width:
            least = min(height, width)
            return int(self.height * height / least), int(self.width * width / least)
        pick = max if self.resize_mode == "longest" else min
        ratio = pick(height / self.height, width / self.width)
        return round(height / ratio), round(width / ratio)

    def resize(self, pixels: Tensor, *, lying: bool = False) -> Tensor:
        """Resize 8-bit pixels (h, w, 3) -> (3, h', w'), antialiased and rounded as Pillow does it.

        ``lying`` says that rows are to be seen as columns: the picture upright is (w, h).
        """
        height, width = pixels.shape[:2]
        seen = (width, height) if lying else (height, width)
        target = self.resized(*seen)
        down, across = target[::-1] if lying else target
        columns_first = _columns_first(seen, target) != lying
        resized = pixels.permute(2, 0, 1)[None]
        # One call does rows and then columns, with 8 bits in between.
        for size in ((down, width), (down, across)) if columns_first else ((down, across),):
            resized = torch.nn.functional.interpolate(
                resized, size, mode=self.interpolation, antialias=True
            )
        return resized[0]

    def cut(self, pixels: Tensor) -> Tensor:
        """Crop or pad resized pixels to (3, self.height, self.width)."""
        # Here, because importing open_clip takes seconds and listing files should not.
        from open_clip.transform import center_crop_or_pad

        cut: Tensor = center_crop_or_pad(pixels, [self.height, self.width], fill=self.fill)
        return cut.contiguous()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Resize and crop 8-bit pixels (h, w, 3) -> (3, self.height, self.width)."""
        return self.cut(self.resize(pixels))


def open_own_transform(settings: Mapping[str, Any], name: str) -> OwnTransform:
    """open_clip's own transform for inference by its ``preprocess_cfg``, tried on a picture.

    Raises:
        CheckpointError: what the checkpoint of that name brings cannot prepare a picture.
    """
    # Here, because importing open_clip takes seconds and listing files should not.
    from open_clip import image_transform

    others = {key: value for key, value in settings.items() if key not in ("size", "mode")}
    try:
        own = cast(OwnTransform, image_transform(settings["size"], is_train=False, **others))
        tried = own(Image.new("RGB", (9, 6), "grey"))
        if len(tried) != 3 or not bool(torch.isfinite(tried).all()):
            raise ValueError("it does not give three channels of finite numbers")
    except Exception as error:
        told = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
        raise CheckpointError(
            f"the preprocessing that {name!r} brings cannot be used ({told}); "
            "correct preprocess_cfg in its configuration"
        ) from error
    return own


def find_fit(settings: Mapping[str, Any], own: OwnTransform) -> Fit | None:
    """The fit that gives what open_clip's own transform gives, up to rounding.

    Pillow's weights are finer: a level of 255 in one pixel of a hundred, two in one of thousands.
    None if there is none: a release of open_clip may do more than resize, crop and normalise.
    """
    try:
        fit = Fit.of(settings)
        if all(_agree(fit, own, settings, *size) for size in _TRIALS):
            return fit
    except (KeyError, TypeError, ValueError, RuntimeError):
        logger.debug("no fit for %s", settings, exc_info=True)
    logger.warning("open_clip prepares images for this model in a way of its own, which is slower")
    return None


def _columns_first(found: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether Pillow squeezes a picture's height before its width: (height, width) of both."""
    (height, width), (down, across) = found, wanted
    return _SINCE_13 and height - down > 2 * max(width - across, 0)


def _agree(
    fit: Fit, own: OwnTransform, settings: Mapping[str, Any], width: int, height: int
) -> bool:
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (height, width, 3), np.uint8)
    expected = own(Image.fromarray(pixels))
    mean, std = (torch.tensor(settings[name]).view(-1, 1, 1) for name in ("mean", "std"))
    found = fit(torch.from_numpy(pixels))
    if found.shape != expected.shape:
        return False
    levels = ((expected * std + mean) * 255 - found).abs()
    return float(levels.mean()) < 0.1 and float(levels.max()) < 2.5
