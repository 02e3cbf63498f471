"""Arrays as FiftyOne stores them, read without its detours."""

from __future__ import annotations

import zlib
from typing import Any

import fiftyone.core.utils as fou
import numpy as np
import numpy.typing as npt


class ArrayReader:
    """Reads FiftyOne's serialised arrays; headers met before are not parsed again."""

    HEADER_BYTES = 128

    def __init__(self) -> None:
        self.known: dict[bytes, np.dtype[Any]] = {}

    def __call__(self, blob: bytes) -> npt.NDArray[Any]:
        """One stored value -> the array."""
        data = zlib.decompress(blob)
        header = data[: self.HEADER_BYTES]
        if header in self.known:
            return np.frombuffer(data, self.known[header], offset=self.HEADER_BYTES)
        array: npt.NDArray[Any] = fou.deserialize_numpy_array(blob)
        if array.ndim == 1 and len(data) == self.HEADER_BYTES + array.nbytes:
            self.known[header] = array.dtype
        return array
