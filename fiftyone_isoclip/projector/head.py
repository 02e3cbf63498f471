"""The final linear map of a CLIP tower."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import IsoClipError

Floats = npt.NDArray[np.float64]

_SMALLEST_SINGULAR_VALUE = float(np.finfo(np.float32).eps)
"""Relative to the largest: checkpoints store float32 at best, what lies below is rounding."""


@dataclass(frozen=True, eq=False)
class Head:
    """The last linear map of a tower, ``e = weight z + bias``, held in float64.

    Shapes: ``weight`` is (r, in): it maps ``in`` features onto ``r`` embedding dimensions;
    ``bias`` is (r,) or None.

    Raises:
        IsoClipError: the shapes do not fit each other, or a number is not finite.
    """

    weight: Floats
    bias: Floats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", np.asarray(self.weight, dtype=np.float64))
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise IsoClipError(
                f"a head's weight has shape {self.weight.shape}; give a matrix (dim, features)"
            )
        if self.bias is not None:
            object.__setattr__(self, "bias", np.asarray(self.bias, dtype=np.float64))
            if self.bias.shape != (self.dim,):
                raise IsoClipError(
                    f"a head's bias has shape {self.bias.shape} beside a weight of shape "
                    f"{self.weight.shape}; give ({self.dim},)"
                )
        if not np.isfinite(self.matrix).all():
            raise IsoClipError(
                "a head's weight or bias holds NaN or infinity; the checkpoint is damaged, "
                "fetch it again"
            )

    @classmethod
    def identity(cls, dim: int) -> Head:
        """The head of a tower that ends without a linear map: (r, r) ones on the diagonal."""
        return cls(np.eye(dim))

    @property
    def dim(self) -> int:
        """The embedding dim r."""
        return int(self.weight.shape[0])

    @cached_property
    def matrix(self) -> Floats:
        """``A = [W b]`` of shape (r, in + 1) with a bias, ``W`` of shape (r, in) without."""
        if self.bias is None:
            return self.weight
        return np.hstack([self.weight, self.bias[:, None]])

    @cached_property
    def decomposition(self) -> tuple[Floats, Floats, Floats]:
        """The thin SVD ``A = X diag(d) Y^T``: X (r, q), d (q,) descending, Y (in [+ 1], q).

        Singular values under the resolution of float32 are left out, so that ``1 / d`` is the
        truncated pseudo-inverse.

        Raises:
            IsoClipError: the head is zero.
        """
        left, values, right = np.linalg.svd(self.matrix, full_matrices=False)
        kept = int(np.count_nonzero(values > values[0] * _SMALLEST_SINGULAR_VALUE))
        if kept == 0:
            raise IsoClipError("a head is zero everywhere; the checkpoint is damaged")
        return left[:, :kept], values[:kept], right[:kept].T

    @property
    def condition(self) -> float:
        """Largest over smallest kept singular value, 1 or more: how far it amplifies rounding."""
        _, values, _ = self.decomposition
        return float(values[0] / values[-1])
