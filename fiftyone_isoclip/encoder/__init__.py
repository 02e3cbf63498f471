"""open_clip's models: where their final maps are, pixels, and batches on the device.

Public names are loaded on first use: looking at a picture's size needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder.batches import Batch, embed_images, embed_pictures
    from fiftyone_isoclip.encoder.checkpoints import Checkpoint, find_checkpoint, list_checkpoints
    from fiftyone_isoclip.encoder.clip import Clip, load_clip
    from fiftyone_isoclip.encoder.heads import HeadLocation
    from fiftyone_isoclip.encoder.images import Box, read_image
    from fiftyone_isoclip.encoder.inversion import Inversion, invert_images
    from fiftyone_isoclip.encoder.limits import ImageLimits
    from fiftyone_isoclip.encoder.pixels import DECODINGS, DEFAULT_DECODING, PixelReader

__all__ = [
    "DECODINGS",
    "DEFAULT_DECODING",
    "Batch",
    "Box",
    "Checkpoint",
    "Clip",
    "HeadLocation",
    "ImageLimits",
    "Inversion",
    "PixelReader",
    "embed_images",
    "embed_pictures",
    "find_checkpoint",
    "invert_images",
    "list_checkpoints",
    "load_clip",
    "read_image",
]

_HOMES = {
    "batches": ["Batch", "embed_images", "embed_pictures"],
    "checkpoints": ["Checkpoint", "find_checkpoint", "list_checkpoints"],
    "clip": ["Clip", "load_clip"],
    "heads": ["HeadLocation"],
    "images": ["Box", "read_image"],
    "inversion": ["Inversion", "invert_images"],
    "limits": ["ImageLimits"],
    "pixels": ["DECODINGS", "DEFAULT_DECODING", "PixelReader"],
}

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
