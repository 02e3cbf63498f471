"""IsoCLIP as a model of FiftyOne: images come out compressed, prompts come out to match them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import fiftyone.core.models as fom
import fiftyone.utils.torch as fout
import numpy as np
import numpy.typing as npt
import torch

from fiftyone_isoclip.dataset.loading import ImageLoader, PartialBatch, PixelTransform, collate
from fiftyone_isoclip.dataset.zoo import GENERAL_NAME
from fiftyone_isoclip.encoder import (
    DEFAULT_DECODING,
    Checkpoint,
    Clip,
    find_checkpoint,
    list_checkpoints,
    load_clip,
)
from fiftyone_isoclip.errors import CheckpointError
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import Band, EmbeddingMap

logger = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]

LOADED_CLIPS = 2
"""How many checkpoints stay in memory: FiftyOne itself forgets a model that nobody holds."""

_loading = threading.Lock()


class IsoClipModelConfig(fout.TorchImageModelConfig):
    """What `foz.load_zoo_model(name, **kwargs)` may say.

    Args:
        d: `checkpoint` (any name `find_checkpoint` knows; the zoo fills it in), `band`
            ("TOP/BOTTOM"; default: the checkpoint's own; a centred one gives plain embeddings,
            off which a similarity index takes the centre of its field), `plain` (True gives plain
            CLIP embeddings), `device` and `precision` ("auto"), `decoding` ("exact" or "fast"),
            `keep_batch` (True: an unreadable image costs its batch-mates nothing; False:
            FiftyOne's own way, which alone honours `skip_failures=False` but loses the whole
            batch).
    """

    def __init__(self, d: dict[str, Any]) -> None:
        super().__init__(d)
        self.checkpoint = self.parse_string(d, "checkpoint", default=None)
        self.band = self.parse_string(d, "band", default=None)
        self.plain = self.parse_bool(d, "plain", default=False)
        self.precision = self.parse_string(d, "precision", default="auto")
        self.decoding = self.parse_string(d, "decoding", default=DEFAULT_DECODING)
        self.keep_batch = self.parse_bool(d, "keep_batch", default=True)
        self.as_feature_extractor = True
        self.ragged_batches = False  # beware: FiftyOne ignores batch_size where this is True


class IsoClipModel(fout.TorchImageModel, fom.PromptMixin):
    """CLIP with IsoCLIP's image projector: images -> unit rows of k numbers, float32.

    Prompts become unit rows of the same k numbers, ``Q^T e_t``, that rank images as plain text
    embeddings rank ``M e``. Where both are at hand, text is better asked of plain embeddings:
    that is what `plain_prompts` and the Brain backend of this package do.

    Source: the paper, section 4; docs on the compressed map in `projector.EmbeddingMap`.
    """

    config: IsoClipModelConfig
    clip: Clip

    def _load_model(self, config: IsoClipModelConfig) -> Clip:
        if config.checkpoint is None:
            raise CheckpointError(
                f"the zoo model {GENERAL_NAME!r} was asked for without a checkpoint; say which, "
                f'for example load_zoo_model("{GENERAL_NAME}", checkpoint="ViT-B-32/openai")'
            )
        device = config.device or "auto"
        self.clip = _load_clip(config.checkpoint, device, config.precision, config.decoding)
        self._device = torch.device(self.clip.device)
        self._using_gpu = self._device.type in ("cuda", "mps")
        return self.clip

    def _build_transforms(self, config: IsoClipModelConfig) -> tuple[PixelTransform, bool]:
        return PixelTransform(self.clip.reader), False

    def build_get_item(self, field_mapping: dict[str, str] | None = None) -> ImageLoader:
        """How FiftyOne's loader reads a sample."""
        return ImageLoader(
            self._transforms, keep_batch=self.config.keep_batch, field_mapping=field_mapping
        )

    collate_fn = staticmethod(collate)

    @property
    def has_collate_fn(self) -> bool:
        """True: batches are put together by `loading.collate`."""
        return True

    def __enter__(self) -> IsoClipModel:
        # The base keeps a no_grad on the instance, which two of the App's threads would share.
        return self

    def __exit__(self, *args: object) -> None:
        pass

    @cached_property
    def band(self) -> Band:
        """The directions that are dropped: asked for, or the checkpoint's own."""
        return self.clip.image_band if self.config.band is None else Band.parse(self.config.band)

    @property
    def embedding_map(self) -> EmbeddingMap:
        """Plain image embeddings (n, r) -> IsoCLIP embeddings (n, k) of this band."""
        return self.clip.isoclip(self.band)

    @property
    def _gives_plain(self) -> bool:
        """Whether embeddings come out plain: a centre belongs to a field, and no model knows it."""
        return self.config.plain or self.band.centred

    @cached_property
    def _image_clip(self) -> Clip:
        """What embeds images: IsoCLIP folded into the last map, or plain CLIP if asked for."""
        return self.clip if self._gives_plain else self.clip.folded(self.band)

    @property
    def zoo_name(self) -> str:
        """The name to give Brain methods; with `zoo_kwargs` it loads this model again."""
        name = self.clip.checkpoint.name
        known = any(name == checkpoint.name for checkpoint in list_checkpoints())
        return name if known else GENERAL_NAME

    @property
    def zoo_kwargs(self) -> dict[str, Any]:
        """What has to be said beside `zoo_name`; empty for a listed checkpoint and its band."""
        said: dict[str, Any] = {}
        if self.zoo_name == GENERAL_NAME:
            said["checkpoint"] = self.config.checkpoint
        if self.config.band is not None:
            said["band"] = str(self.band)
        return said

    def as_plain(self) -> IsoClipModel:
        """The same checkpoint, giving plain CLIP embeddings (n, r) of unit length."""
        return IsoClipModel(
            IsoClipModelConfig(
                {
                    "checkpoint": self.config.checkpoint,
                    "device": self.config.device,
                    "precision": self.config.precision,
                    "decoding": self.config.decoding,
                    "keep_batch": self.config.keep_batch,
                    "plain": True,
                }
            )
        )

    def _predict_all(self, imgs: Any) -> Float32s | list[Float32s | None]:
        if isinstance(imgs, PartialBatch):
            return imgs.spread(self._embed_pixels(imgs.pixels))
        if self._preprocess:
            imgs = [self._transforms(image) for image in imgs]
        pixels = imgs if isinstance(imgs, torch.Tensor) else torch.stack(list(imgs))
        return self._embed_pixels(pixels)

    def _embed_pixels(self, pixels: torch.Tensor) -> Float32s:
        return unit_rows(self._image_clip.image_embeddings(pixels))

    @property
    def can_embed_prompts(self) -> bool:
        """True: every checkpoint has a text tower."""
        return True

    def embed_prompt(self, arg: str) -> Float32s:
        """One prompt -> (k,), to be compared with this model's image embeddings."""
        prompt: Float32s = self.embed_prompts([arg])[0]
        return prompt

    def embed_prompts(self, args: Sequence[str]) -> Float32s:
        """Prompts -> (n, k) unit rows, to be compared with this model's image embeddings."""
        plain = self.plain_prompts(args)
        return plain if self._gives_plain else self.embedding_map.query(plain)

    def plain_prompts(self, prompts: Sequence[str]) -> Float32s:
        """Prompts -> (n, r) unit rows, to be compared with plain CLIP image embeddings."""
        unknown = self.clip.unknown_words(prompts)
        if unknown:
            logger.warning(
                "%s does not know the words %s; they tell it nothing",
                self.clip.checkpoint.name,
                ", ".join(unknown),
            )
        return unit_rows(self.clip.text_embeddings(list(prompts)))


def load_model(
    name: str = "isoclip-demo",
    *,
    band: Band | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    decoding: str = DEFAULT_DECODING,
) -> IsoClipModel:
    """Load a checkpoint as a model that FiftyOne can use.

    Args:
        name: any name `find_checkpoint` knows: "isoclip-vit-b-32-openai", "ViT-B-32/openai",
            "ViT-B-32//folder/weights.safetensors", "hf-hub:org/model".
        band: the directions to drop; default: the checkpoint's own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "float32", "bf16" or "fp16"; the last map is float32 in any case.
        decoding: "exact", or "fast" for JPEGs that are far larger than the model needs.

    Raises:
        CheckpointError: if the checkpoint is unknown, unreachable, incomplete or not finite.
        BandError: if the band cannot be read or keeps nothing.
    """
    model = IsoClipModel(
        IsoClipModelConfig(
            {
                "checkpoint": name,
                "band": None if band is None else str(band),
                "device": None if device == "auto" else device,  # FiftyOne knows no "auto"
                "precision": precision,
                "decoding": decoding,
            }
        )
    )
    model.band.count(model.clip.spectrum.rank)  # a band that keeps nothing is told at once
    return model


def _load_clip(name: str, device: str, precision: str, decoding: str) -> Clip:
    checkpoint = find_checkpoint(name)
    file = Path(checkpoint.pretrained)
    written = file.stat().st_mtime_ns if file.is_file() else 0
    with _loading:
        clip = _loaded_clip(checkpoint, written, device, precision)
    return clip.with_decoding(decoding)


@lru_cache(maxsize=LOADED_CLIPS)
def _loaded_clip(checkpoint: Checkpoint, written: int, device: str, precision: str) -> Clip:
    """A checkpoint, loaded again if its file was written anew."""
    return load_clip(checkpoint, device=device, precision=precision)
