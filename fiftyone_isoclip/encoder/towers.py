"""One half of a CLIP model on its device: the tower in a chosen precision, its map in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.projector import Head

logger = logging.getLogger(__name__)

Embeddings = npt.NDArray[np.float32]


class Tower:
    """Runs inputs through an open_clip tower without its head, then through a head in float32.

    ``encode`` takes inputs on the device and ``normalize=False``, and gives the features z (n, in)
    before the final map. IsoCLIP amplifies the rounding of that map, so it never runs in less.
    """

    def __init__(
        self, encode: Callable[..., Tensor], head: Head, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._encode = encode
        self._device = device
        self._dtype = dtype
        self._weight, self._bias = _on_device(head, device)
        self._rows_at_once: int | None = None

    @property
    def dim(self) -> int:
        """Width of its embeddings."""
        return int(self._weight.shape[0])

    def ending_in(self, head: Head) -> Tower:
        """The same tower, shared and not copied, with another final map."""
        tower = copy(self)
        tower._weight, tower._bias = _on_device(head, self._device)
        return tower

    def __call__(self, inputs: Tensor) -> Embeddings:
        """Embed inputs (n, ...) -> (n, dim) float32, not normalised.

        When the device's memory runs out the batch is halved, and stays so for later calls.

        Raises:
            IsoClipError: one input alone does not fit into the device's memory.
        """
        done = [np.empty((0, self.dim), np.float32)]
        start = 0
        while start < len(inputs):
            part = inputs[start : start + (self._rows_at_once or len(inputs))]
            embeddings = self._run(part)
            if embeddings is None:
                self._halve(len(part))
            else:
                done.append(embeddings)
                start += len(part)
        return np.concatenate(done)

    def _run(self, inputs: Tensor) -> Embeddings | None:
        """None when the device's memory ran out; by then what was held there has been let go."""
        try:
            with torch.inference_mode():
                dtype = self._dtype if inputs.is_floating_point() else inputs.dtype
                features = self._encode(inputs.to(self._device, dtype), normalize=False)
                projected = torch.nn.functional.linear(features.float(), self._weight, self._bias)
                embeddings: Embeddings = projected.cpu().numpy()
                return embeddings
        except torch.OutOfMemoryError:
            return None

    def _halve(self, tried: int) -> None:
        if tried < 2:
            raise IsoClipError(
                f"one input alone does not fit into the memory of {self._device}; free memory "
                "there, or load the model with device='cpu'"
            )
        self._rows_at_once = tried // 2
        logger.warning(
            "%s ran out of memory at %d inputs; going on with %d at a time",
            self._device,
            tried,
            self._rows_at_once,
        )


def _on_device(head: Head, device: torch.device) -> tuple[Tensor, Tensor | None]:
    def moved(numbers: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(numbers.astype(np.float32)).to(device)

    return moved(head.weight), None if head.bias is None else moved(head.bias)
