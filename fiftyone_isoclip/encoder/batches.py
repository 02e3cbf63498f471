"""Files to embeddings, in order: decoded in threads while the tower works; each fails alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fiftyone_isoclip.encoder.clip import Clip
from fiftyone_isoclip.encoder.images import Box, read_image
from fiftyone_isoclip.errors import ImageError

BATCH_SIZES = {"cpu": 16, "mps": 64, "cuda": 256}
"""Images a forward pass: larger ones no longer pay on a processor."""

_BATCHES_AHEAD = 2
_MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class Batch:
    """What became of some consecutive paths.

    Shapes: ``rows`` (m,) int64 positions in the paths that succeeded, ascending; ``embeddings``
    (m, dim) float32, not normalised. ``failures`` maps the other positions to a short reason.
    """

    rows: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]
    failures: dict[int, str]


def embed_images(
    clip: Clip,
    paths: Sequence[str | Path],
    *,
    boxes: Sequence[Box | None] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Embed image files in order; a file that cannot be embedded fails alone, with its reason.

    ``boxes`` gives each path a crop (left, top, width, height as shares), or None for the whole.
    ``batch_size`` defaults by device, ``workers`` (decoding threads) to the processor's cores.
    At most two batches of decoded images wait for the tower.

    Raises:
        IsoClipError: the device's memory cannot hold one image; finished batches were yielded.
    """
    size = batch_size or BATCH_SIZES.get(clip.device.partition(":")[0], BATCH_SIZES["cpu"])
    threads = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    crops = [None] * len(paths) if boxes is None else boxes
    tasks = zip(range(len(paths)), paths, crops, strict=True)
    waiting: deque[tuple[int, Future[Tensor | str]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="isoclip-decode")

    def submit_until(count: int) -> None:
        while len(waiting) < count and (task := next(tasks, None)) is not None:
            row, path, crop = task
            waiting.append((row, pool.submit(_decode, clip, path, crop)))

    try:
        submit_until((1 + _BATCHES_AHEAD) * size)
        while waiting:
            taken = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            decoded = {row: future.result() for row, future in taken}
            submit_until(_BATCHES_AHEAD * size)
            yield _embedded(clip, decoded)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(clip: Clip, path: str | Path, box: Box | None) -> Tensor | str:
    try:
        return clip.preprocess(read_image(path, box))
    except ImageError as error:
        return str(error)


def _embedded(clip: Clip, decoded: dict[int, Tensor | str]) -> Batch:
    failures = {row: found for row, found in decoded.items() if isinstance(found, str)}
    pixels = {row: found for row, found in decoded.items() if isinstance(found, Tensor)}
    rows = np.fromiter(pixels, np.int64, len(pixels))
    if not pixels:
        return Batch(rows, np.empty((0, clip.dim), np.float32), failures)
    embeddings = clip.image_embeddings(torch.stack(list(pixels.values())))
    finite = np.asarray(np.isfinite(embeddings).all(axis=1))
    usable = finite & np.asarray(embeddings.any(axis=1))
    for row, is_finite in zip(rows[~usable], finite[~usable], strict=True):
        what = "a zero embedding" if is_finite else "an embedding with NaN or infinity"
        failures[int(row)] = f"the model gave {what}"
    return Batch(rows[usable], embeddings[usable], failures)
