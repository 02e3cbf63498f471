"""Products of screen coordinates, thresholded: by the BLAS, or by torch in half precision."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from fiftyone_isoclip.hardware import cuda_is_there, processor_has_bf16
from fiftyone_isoclip.index.vectors import UNIT_ROUNDOFF, Float32s, Rows, row_blocks

Selection = slice | Rows

_WORTH_ROWS = 100_000
"""From here on a search takes longer than importing torch."""


class Bounds(Protocol):
    """Upper bounds of the cosines of rows with rows, up to a slack.

    Attributes:
        slack: how far a bound may lie under the cosine it stands for.
        sides: rows and columns of a product that suits the device.
    """

    slack: float
    sides: tuple[int, int]

    def above(self, rows: Selection, columns: slice, least: float) -> tuple[Rows, Rows]:
        """Find the entries of one product that are at least `least`, as places in its sides."""


class BlasBounds:
    """float32 products by NumPy's BLAS."""

    sides = (512, 512)

    def __init__(self, coordinates: Float32s, slack: float) -> None:
        self._coordinates = coordinates
        self.slack = slack
        self._local = threading.local()

    def above(self, rows: Selection, columns: slice, least: float) -> tuple[Rows, Rows]:
        """See `Bounds`."""
        left, right = self._coordinates[rows], self._coordinates[columns]
        # One buffer for all products: fresh memory for each would cost more than the product.
        if not hasattr(self._local, "buffer"):
            self._local.buffer = np.empty(self.sides[0] * self.sides[1], dtype=np.float32)
        bounds = self._local.buffer[: len(left) * len(right)].reshape(len(left), len(right))
        np.matmul(left, right.T, out=bounds)
        if bounds.max() < least:
            return _NOTHING
        found = np.divmod(np.flatnonzero(bounds >= np.float32(least)), len(right))
        return found[0], found[1]


class TorchBounds:
    """Half-precision products by torch, on CUDA or on a processor with bf16 instructions.

    Rounding x to half precision moves it by the vector d_x, whose length is measured. With e the
    longest of them, and rows no longer than 1 + e,

        x . y <= x' . y' + |d_x| |y| + |x'| |d_y| <= x' . y' + 2 e + e^2 + (rounding of rows)

    and the sum itself, accumulated in float32, is rounded once more to half precision.
    """

    def __init__(self, coordinates: Float32s, slack: float, device: str) -> None:
        import torch

        self._device = torch.device(device)
        half = torch.float16 if self._device.type == "cuda" else torch.bfloat16
        self.sides = (2**14, 2**14) if self._device.type == "cuda" else (512, 512)
        self._table = torch.empty(coordinates.shape, dtype=half, device=self._device)
        longest = 0.0
        for block in row_blocks(*coordinates.shape):
            rounded = torch.tensor(coordinates[block]).to(half)
            gaps = coordinates[block].astype(np.float64) - rounded.double().numpy()
            longest = max(longest, float(np.linalg.norm(gaps, axis=1).max(initial=0.0)))
            self._table[block] = rounded.to(self._device)
        self.slack = slack + half_slack(longest, torch.finfo(half).eps)
        self._buffer = torch.empty(self.sides[0] * self.sides[1], dtype=half, device=self._device)

    def above(self, rows: Selection, columns: slice, least: float) -> tuple[Rows, Rows]:
        """See `Bounds`."""
        import torch

        chosen = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self._device)
        left, right = self._table[chosen], self._table[columns]
        bounds = self._buffer[: len(left) * len(right)].view(len(left), len(right))
        with _sums_in_float32():
            torch.mm(left, right.T, out=bounds)
        # A threshold rounded up would lose pairs; comparing rounds it to the table's type.
        rounded = least - abs(least) * torch.finfo(bounds.dtype).eps
        if not bool(bounds.max() >= rounded):
            return _NOTHING
        found = torch.nonzero(bounds >= rounded).cpu().numpy()
        return found[:, 0], found[:, 1]


_NOTHING: tuple[Rows, Rows] = (np.empty(0, np.int64), np.empty(0, np.int64))


def half_slack(longest: float, eps: float) -> float:
    """Bound what half precision adds to the slack of a product of rows of length about 1.

    Args:
        longest: the length of the longest difference between a row and its rounded self.
        eps: the spacing of half-precision numbers just above 1.
    """
    # A coordinate row is 1 long up to the rounding of its numbers; half of eps is the relative
    # error of one rounding, of a sum that is at most (1 + longest)^2 and a float32 error long.
    length = 1.0 + 64 * UNIT_ROUNDOFF
    largest = (length + longest) ** 2 + 2.0**-10
    return 2 * longest * length + longest**2 + largest * eps / 2


def choose_device(n: int) -> str | None:
    """Name the torch device whose half-precision products may pay for n rows; None for the BLAS.

    On a processor they pay for the plain screen alone: half precision costs some .005 of
    similarity, and with it a prefix lets too many candidates through; and torch prepares itself
    anew for each shape of product, of which cells have many.
    """
    if n < _WORTH_ROWS:
        return None
    if cuda_is_there():
        return "cuda"
    return "cpu" if processor_has_bf16() else None


def open_bounds(coordinates: Float32s, slack: float, device: str | None) -> Bounds:
    """Prepare products of coordinates (n, q) on a torch device, or by the BLAS for None."""
    if device is None or not len(coordinates):
        return BlasBounds(coordinates, slack)
    return TorchBounds(coordinates, slack, device)


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Keep cuBLAS from adding partial sums in float16, as it may by default."""
    import torch

    settings = torch.backends.cuda.matmul
    before = settings.allow_fp16_reduced_precision_reduction
    settings.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_fp16_reduced_precision_reduction = before
