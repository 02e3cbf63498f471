"""One half of a CLIP model on its device: the tower in a chosen precision, its map in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.projector import Head

logger = logging.getLogger(__name__)

Embeddings = npt.NDArray[np.float32]

Normalisation = tuple[Sequence[float], Sequence[float]]

Result = TypeVar("Result")

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What CUDA and MPS, the processor, and cuBLAS say; only CUDA has an exception of its own."""


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory."""
    return any(sign in str(error) for sign in _OUT_OF_MEMORY)


class Portions:
    """How many inputs a device takes at once: halved when its memory runs out, and kept so."""

    def __init__(self, device: torch.device) -> None:
        self.rows_at_once: int | None = None
        self._device = device

    def __call__(self, n: int, run: Callable[[slice], Result]) -> list[Result]:
        """Run n inputs in consecutive slices, -> what each gave; a slice may be tried again.

        Raises:
            IsoClipError: one input alone does not fit into the device's memory.
        """
        done: list[Result] = []
        start = 0
        while start < n:
            rows = slice(start, min(n, start + (self.rows_at_once or n)))
            try:
                done.append(run(rows))
                start = rows.stop
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
            # Outside of the handler, where what the failed run held on the device has been let go.
            if start < rows.stop:
                self._halve(rows.stop - start)
        return done

    def _halve(self, tried: int) -> None:
        if tried < 2:
            raise IsoClipError(
                f"one input alone does not fit into the memory of {self._device}; free memory "
                "there, or load the model with device='cpu'"
            )
        self.rows_at_once = tried // 2
        logger.warning(
            "%s ran out of memory at %d inputs; going on with %d at a time",
            self._device,
            tried,
            self.rows_at_once,
        )


class Tower:
    """Runs inputs through an open_clip tower without its head, then through a head in float32.

    ``encode`` takes inputs on the device and ``normalize=False``, and gives the features z (n, in)
    before the final map. IsoCLIP amplifies the rounding of that map, so it never runs in less.
    ``normalisation`` is the mean and the deviation of a channel, as shares of 255; it is applied on
    the device to inputs of 8 bits.
    """

    def __init__(
        self,
        encode: Callable[..., Tensor],
        head: Head,
        device: torch.device,
        dtype: torch.dtype,
        normalisation: Normalisation | None = None,
    ) -> None:
        self._encode = encode
        self._device = device
        self._dtype = dtype
        self._weight, self._bias = head_on_device(head, device)
        self._portions = Portions(device)
        if normalisation is not None:
            mean, deviation = (torch.tensor(part).view(-1, 1, 1) for part in normalisation)
            self._factor = (1 / (255 * deviation)).to(device)
            self._offset = (-mean / deviation).to(device)

    @property
    def dim(self) -> int:
        """Width of its embeddings."""
        return int(self._weight.shape[0])

    def ending_in(self, head: Head) -> Tower:
        """The same tower, shared and not copied, with another final map."""
        tower = copy(self)
        tower._weight, tower._bias = head_on_device(head, self._device)
        return tower

    def __call__(self, inputs: Tensor) -> Embeddings:
        """Embed inputs (n, ...) -> (n, dim) float32, not normalised.

        When the device's memory runs out the batch is halved, and stays so for later calls.

        Raises:
            IsoClipError: one input alone does not fit into the device's memory.
        """
        parts = self._portions(len(inputs), lambda rows: self._run(inputs[rows]))
        return np.concatenate([np.empty((0, self.dim), np.float32), *parts])

    def _run(self, inputs: Tensor) -> Embeddings:
        with torch.inference_mode():
            features = self._encode(self._placed(inputs), normalize=False)
            projected = torch.nn.functional.linear(features.float(), self._weight, self._bias)
            embeddings: Embeddings = projected.cpu().numpy()
            return embeddings

    def _placed(self, inputs: Tensor) -> Tensor:
        """Inputs on the device: pictures in the tower's precision, tokens as they are."""
        # Bytes are a quarter of the way to a GPU, and from pinned memory it need not be waited for.
        placed = inputs.to(self._device, non_blocking=self._device.type == "cuda")
        if placed.dtype == torch.uint8:
            placed = torch.addcmul(self._offset, placed.float(), self._factor)
        return placed.to(self._dtype) if placed.is_floating_point() else placed


def head_on_device(
    head: Head, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor | None]:
    """A head's weight (r, in) and bias (r,) on the device."""

    def moved(numbers: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(numbers).to(dtype).to(device)

    return moved(head.weight), None if head.bias is None else moved(head.bias)
