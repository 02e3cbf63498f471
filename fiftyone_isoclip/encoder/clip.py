"""An open_clip model that hands out plain CLIP embeddings, and IsoCLIP's maps for them."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fiftyone_isoclip.encoder.checkpoints import Checkpoint, find_checkpoint, unpublished_band
from fiftyone_isoclip.encoder.devices import DTYPES, choose_device, choose_precision
from fiftyone_isoclip.encoder.fitting import find_fit, open_own_transform
from fiftyone_isoclip.encoder.heads import locate_image_head, locate_text_head, take_head
from fiftyone_isoclip.encoder.pixels import DEFAULT_DECODING, PixelReader
from fiftyone_isoclip.encoder.tokenizers import Tokenizer, open_tokenizer
from fiftyone_isoclip.encoder.towers import Embeddings, Tower, ran_out_of_memory
from fiftyone_isoclip.encoder.weights import fingerprint, open_model
from fiftyone_isoclip.encoder.words import WordTokenizer
from fiftyone_isoclip.errors import CheckpointError, IsoClipError
from fiftyone_isoclip.projector import Band, EmbeddingMap, Head, Spectrum

logger = logging.getLogger(__name__)

_PROMPTS_AT_ONCE = 256


class Clip:
    """A CLIP model whose two final linear maps are held apart from its towers, in float32.

    The towers run in ``precision`` on ``device`` and give z, the feature before the final map;
    the map itself is always applied in float32, because IsoCLIP amplifies its rounding.

    ``dim`` is the width of ``image_embeddings``. ``image_head`` and ``text_head`` are the
    checkpoint's own, also in a folded model; ``image_location`` and ``text_location`` say where
    they were found. ``fingerprint`` is the same for the same weights and the same folding.
    ``band`` is what was folded in, None for plain CLIP.

    ``reader`` turns image files into what ``image_embeddings`` takes; ``preprocess`` is open_clip's
    own transform, slower and the same up to rounding.

    Raises:
        CheckpointError: a tower ends in a way that is not known, or neither has a linear map.
    """

    band: Band | None = None

    def __init__(
        self,
        model: nn.Module,
        checkpoint: Checkpoint,
        device: torch.device,
        precision: str,
        decoding: str = DEFAULT_DECODING,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = str(device)
        self.precision = precision
        self.image_location = locate_image_head(model)
        self.text_location = locate_text_head(model)
        image = take_head(model, self.image_location)
        text = take_head(model, self.text_location)
        self._weights_fingerprint = fingerprint(model, checkpoint.architecture, image, text)
        self.image_head, self.text_head = _with_identity(image, text, checkpoint)
        settings = cast(Any, model.visual).preprocess_cfg
        self.preprocess = open_own_transform(settings, checkpoint.name)
        self.reader = PixelReader(find_fit(settings, self.preprocess), self.preprocess, decoding)
        dtype = DTYPES[precision]
        placed = cast(Any, _placed(model, checkpoint, device, dtype))
        self._context_length = int(placed.context_length)
        self._model = cast(nn.Module, placed)
        normalisation = (settings["mean"], settings["std"])
        self._images = Tower(placed.encode_image, self.image_head, device, dtype, normalisation)
        self._texts = Tower(placed.encode_text, self.text_head, device, dtype)
        self._maps: dict[Band, tuple[EmbeddingMap, EmbeddingMap]] = {}

    @property
    def dim(self) -> int:
        """Width of an image embedding: r, or k in a folded model."""
        return self._images.dim

    @property
    def fingerprint(self) -> str:
        """A hex digest: the same weights and folding give the same, in any precision."""
        if self.band is None:
            return self._weights_fingerprint
        return hashlib.sha256(f"{self._weights_fingerprint} {self.band}".encode()).hexdigest()

    @cached_property
    def spectrum(self) -> Spectrum:
        """The spectrum of the inter-modal operator between the two heads."""
        return Spectrum.between(self.image_head, self.text_head)

    @cached_property
    def image_band(self) -> Band:
        """The published band for image-to-image similarity, or the cautious default."""
        return self.checkpoint.image_band or unpublished_band(self.spectrum, "image")

    @cached_property
    def text_band(self) -> Band:
        """The published band for text-to-text similarity, or the cautious default."""
        return self.checkpoint.text_band or unpublished_band(self.spectrum, "text")

    def isoclip(self, band: Band | None = None) -> EmbeddingMap:
        """The map from plain image embeddings to IsoCLIP's; None takes ``image_band``.

        Raises:
            BandError: the band keeps nothing of this checkpoint's rank.
        """
        return self._rewritten(band or self.image_band)[0]

    def isoclip_text(self, band: Band | None = None) -> EmbeddingMap:
        """The map from plain text embeddings to IsoCLIP's; None takes ``text_band``.

        Raises:
            BandError: the band keeps nothing of this checkpoint's rank.
        """
        return self._rewritten(band or self.text_band)[1]

    def folded(self, band: Band | None = None) -> Clip:
        """A model whose image embeddings are compressed IsoCLIP embeddings, at CLIP's own cost.

        It shares the towers with this one; its text side stays plain.

        Raises:
            BandError: the band keeps nothing of this checkpoint's rank.
        """
        folded = copy.copy(self)
        folded.band = band or self.image_band
        head = self.isoclip(folded.band).folded_into(self.image_head)
        folded._images = self._images.ending_in(head)
        return folded

    def with_decoding(self, decoding: str) -> Clip:
        """The same model, shared and not copied, that reads files in this way.

        Raises:
            IsoClipError: the decoding is neither "exact" nor "fast".
        """
        if decoding == self.reader.decoding:
            return self
        other = copy.copy(self)
        other.reader = replace(self.reader, decoding=decoding)
        return other

    def image_embeddings(self, pixels: Tensor) -> Embeddings:
        """Images as ``reader`` gives them, (n, 3, h, w), -> (n, dim) float32, not normalised.

        They are uint8, or floats that have been normalised.

        When the device's memory runs out the batch is halved, down to single images.

        Raises:
            IsoClipError: one image alone does not fit into the device's memory.
        """
        return self._images(pixels)

    def text_embeddings(self, prompts: Sequence[str]) -> Embeddings:
        """Embed n prompts -> (n, r) float32, not normalised.

        Raises:
            CheckpointError: the tokenizer comes from a hub that cannot be reached.
            IsoClipError: one prompt alone does not fit into the device's memory.
        """
        tokens = self.tokenizer([prompts] if isinstance(prompts, str) else list(prompts))
        starts = range(0, len(tokens), _PROMPTS_AT_ONCE)
        parts = [self._texts(tokens[start : start + _PROMPTS_AT_ONCE]) for start in starts]
        return np.concatenate([np.empty((0, self._texts.dim), np.float32), *parts])

    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """The words that a whole-word tokenizer does not know; empty for every other one.

        Raises:
            CheckpointError: the tokenizer comes from a hub that cannot be reached.
        """
        if isinstance(self.tokenizer, WordTokenizer):
            return self.tokenizer.unknown_words(prompts)
        return []

    def text_tower(self, dtype: torch.dtype) -> nn.Module:
        """A copy without the image tower, in this precision, frozen: to differentiate through.

        ``encode_text(tokens, normalize=False)`` gives the features z before ``text_head``.
        """
        tower = copy.deepcopy(self._model, {id(self._model.visual): None})
        return tower.to(dtype).requires_grad_(False)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Prompts to token numbers: n prompts -> (n, context length) int64.

        Raises:
            CheckpointError: it comes from a hub that cannot be reached.
        """
        return open_tokenizer(self.checkpoint, self._context_length)

    def _rewritten(self, band: Band) -> tuple[EmbeddingMap, EmbeddingMap]:
        if band not in self._maps:
            self._maps[band] = self.spectrum.rewrite(band)
        return self._maps[band]


def load_clip(
    name: str | Checkpoint,
    *,
    device: str = "auto",
    precision: str = "auto",
    decoding: str = DEFAULT_DECODING,
) -> Clip:
    """Load a checkpoint by any name that ``find_checkpoint`` understands.

    ``device`` is "auto" (CUDA, else MPS, else the processor) or a torch device; ``precision`` is
    "auto", "float32", "bf16" or "fp16" and concerns the towers alone. ``decoding`` is
    "exact" (every pixel) or "fast": a JPEG of over twelve times the tower's size is decoded at a
    half of its size or less, which moves an embedding by about 1e-5 in cosine.

    Raises:
        CheckpointError: the weights are unknown, unreachable, damaged or not finite.
        IsoClipError: the device, the precision or the decoding does not exist here, or the model
            does not fit into the device's memory.
    """
    checkpoint = find_checkpoint(name) if isinstance(name, str) else name
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    clip = Clip(open_model(checkpoint), checkpoint, place, dtype, decoding)
    _announce(checkpoint.name, clip.device, clip.precision)
    return clip


@cache
def _announce(name: str, device: str, precision: str) -> None:
    """Say once a process what runs where: an idle GPU should not go unnoticed."""
    logger.info("%s on %s, %s", name, device, precision)


def _placed(
    model: nn.Module, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    try:
        return model.to(device=device, dtype=dtype)
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        raise IsoClipError(
            f"{checkpoint.name!r} does not fit into the memory of {device}; free memory there, or "
            "load it with device='cpu'"
        ) from error


def _with_identity(
    image: Head | None, text: Head | None, checkpoint: Checkpoint
) -> tuple[Head, Head]:
    present = image or text
    if present is None:
        raise CheckpointError(
            f"neither tower of {checkpoint.name!r} ends in a linear map, so there is no projector "
            "to rewrite; use another checkpoint"
        )
    for side, head in {"image": image, "text": text}.items():
        if head is not None and not head.matrix.any():
            raise CheckpointError(
                f"the final map of the {side} tower of {checkpoint.name!r} is zero everywhere; the "
                "file is damaged: fetch it again"
            )
    identity = Head.identity(present.dim)
    return image or identity, text or identity
