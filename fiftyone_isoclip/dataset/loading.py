"""How FiftyOne's data loader reads our images, so that one bad image costs only itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone.utils.torch as fout
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fiftyone_isoclip.encoder import PixelReader
from fiftyone_isoclip.encoder.images import to_rgb
from fiftyone_isoclip.errors import ImageError

logger = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PixelTransform:
    """Any image that FiftyOne hands a model -> pixels (3, h, w); picklable, for loader workers.

    Takes PIL images, uint8 arrays (h, w, 3) or (h, w), and tensors (3, h, w) of uint8 or of
    floats in [0, 1]. The limits and conversions of a file hold here as well.
    """

    reader: PixelReader

    def __call__(self, image: Any) -> torch.Tensor:
        """One image -> (3, h, w), as the reader gives it.

        Raises:
            ImageError: it is too large or too long, or holds NaN.
        """
        if isinstance(image, torch.Tensor):
            if image.is_floating_point():
                if bool(image.isnan().any()):
                    raise ImageError("the picture holds NaN")
                image = (image * 255).round().clamp(0, 255)
            image = image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        self.reader.check_size(*image.size)
        return self.reader(np.array(to_rgb(image)))


@dataclass(frozen=True)
class Unreadable:
    """What the loader puts in the place of an image that cannot be read."""

    reason: str


class ImageLoader(fout.GetItem):
    """Reads a sample's image the way this package reads every image (EXIF, bombs, odd modes)."""

    def __init__(
        self,
        transform: PixelTransform,
        *,
        keep_batch: bool,
        field_mapping: dict[str, str] | None = None,
    ) -> None:
        super().__init__(field_mapping=field_mapping)
        self.transform = transform
        self.keep_batch = keep_batch

    @property
    def required_keys(self) -> list[str]:
        """The sample field that is read."""
        return ["filepath"]

    def __call__(self, d: dict[str, str]) -> torch.Tensor | Unreadable:
        """Pixels (3, h, w), or the reason why there are none.

        Raises:
            ImageError: if the image cannot be read and batches are not to be kept.
        """
        (found,) = self.transform.reader.read(d["filepath"])
        if isinstance(found, torch.Tensor):
            return found
        if not self.keep_batch:
            raise ImageError(found)
        logger.warning("%s has no embedding: %s", d["filepath"], found)
        return Unreadable(f"{d['filepath']}: {found}")


@dataclass(frozen=True)
class PartialBatch:
    """A batch of n images of which some could not be read: pixels (m, 3, h, w) at rows (m,)."""

    pixels: torch.Tensor
    rows: list[int]
    n: int

    def spread(self, embeddings: Float32s) -> list[Float32s | None]:
        """One entry an image again, None where it could not be read: (m, k) -> n."""
        spread: list[Float32s | None] = [None] * self.n
        for row, embedding in zip(self.rows, embeddings, strict=True):
            spread[row] = embedding.view(_Embedding)
        return spread


class _Embedding(np.ndarray[Any, np.dtype[np.float32]]):
    """An embedding whose batch had unreadable images.

    FiftyOne stacks what a model returned with `np.stack`, which knows no None. It promises its
    users a list with None for every failure, but only makes one if a *whole* batch failed. NumPy
    lets the rows answer for the stack they are in, and these give that list.
    """

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.stack:
            rows = [None if row is None else np.asarray(row) for row in args[0]]
            return rows if any(row is None for row in rows) else np.stack(rows)
        return super().__array_function__(func, types, args, kwargs)


def collate(items: Sequence[torch.Tensor | Unreadable]) -> torch.Tensor | PartialBatch:
    """Stack the images that could be read.

    Raises:
        ImageError: if none could; FiftyOne then counts all of them as failed.
    """
    rows = [row for row, item in enumerate(items) if isinstance(item, torch.Tensor)]
    if not rows:
        raise ImageError("; ".join(item.reason for item in items if isinstance(item, Unreadable)))
    pixels = torch.stack([item for item in items if isinstance(item, torch.Tensor)])
    return pixels if len(rows) == len(items) else PartialBatch(pixels, rows, len(items))
