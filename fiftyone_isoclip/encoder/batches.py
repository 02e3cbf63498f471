"""Files to embeddings, in order: decoded in threads while the tower works; each fails alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fiftyone_isoclip.encoder.clip import Clip
from fiftyone_isoclip.encoder.images import Box
from fiftyone_isoclip.encoder.origins import Source

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
    paths: Sequence[Source],
    *,
    boxes: Sequence[Box | None] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Embed image files in order; a file that cannot be embedded fails alone, with its reason.

    ``boxes`` gives each path a crop (left, top, width, height as shares), or None for the whole;
    a path that comes several times in a row is decoded once. ``batch_size`` defaults by device,
    ``workers`` (decoding threads) to the processor's cores. At most two batches of decoded
    images wait for the tower.

    Raises:
        IsoClipError: the device's memory cannot hold one image, or nothing answers where one lies;
            finished batches were yielded.
    """
    size = batch_size or BATCH_SIZES.get(clip.device.partition(":")[0], BATCH_SIZES["cpu"])
    threads = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    crops = [None] * len(paths) if boxes is None else boxes
    tasks = _by_file(zip(range(len(paths)), paths, crops, strict=True), size)
    waiting: deque[_Decoding] = deque()
    decoders = ThreadPoolExecutor(threads, thread_name_prefix="isoclip-decode")
    stacker = ThreadPoolExecutor(1, thread_name_prefix="isoclip-stack")

    def stack_next() -> Future[_Stack] | None:
        while len(waiting) < _BATCHES_AHEAD * size and (task := next(tasks, None)):
            read = decoders.submit(clip.reader.read, task.path, task.boxes)
            waiting.extend(_Decoding(row, read, place) for place, row in enumerate(task.rows))
        taken = [waiting.popleft() for _ in range(min(size, len(waiting)))]
        return stacker.submit(_stack, taken, clip.device) if taken else None

    try:
        stacking = stack_next()
        while stacking is not None:
            stack = stacking.result()
            stacking = stack_next()
            yield _embedded(clip, stack)
    finally:
        stacker.shutdown(wait=False, cancel_futures=True)
        decoders.shutdown(wait=True, cancel_futures=True)
        stacker.shutdown(wait=True)


def embed_pictures(clip: Clip, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
    """Embed pictures in memory, n at least 1, RGB, in one batch -> (n, dim) float32."""
    pixels = [clip.reader(np.array(picture)) for picture in pictures]
    return clip.image_embeddings(torch.stack(pixels))


@dataclass(frozen=True, slots=True)
class _File:
    """Consecutive rows of one path, so that it is decoded once."""

    path: Source
    rows: list[int]
    boxes: list[Box | None]


@dataclass(frozen=True, slots=True)
class _Decoding:
    """A row, and its place in what reading its file gives."""

    row: int
    read: Future[list[Tensor | str]]
    place: int


@dataclass(frozen=True, slots=True)
class _Stack:
    """Pixels (m, 3, h, w) of the rows (m,) that could be read, None if there are none."""

    rows: npt.NDArray[np.int64]
    pixels: Tensor | None
    failures: dict[int, str]


def _by_file(rows: Iterable[tuple[int, Source, Box | None]], most: int) -> Iterator[_File]:
    """Put rows of the same path together, at most so many, because all their crops are held."""
    for path, group in groupby(rows, key=itemgetter(1)):
        while part := list(islice(group, most)):
            yield _File(path, [row for row, _, _ in part], [box for _, _, box in part])


def _stack(decodings: Sequence[_Decoding], device: str) -> _Stack:
    """Wait for a batch and lay it out for the device, while the tower works on the one before."""
    decoded = {each.row: each.read.result()[each.place] for each in decodings}
    failures = {row: found for row, found in decoded.items() if isinstance(found, str)}
    pixels = {row: found for row, found in decoded.items() if isinstance(found, Tensor)}
    rows = np.fromiter(pixels, np.int64, len(pixels))
    if not pixels:
        return _Stack(rows, None, failures)
    stacked = torch.stack(list(pixels.values()))
    on_cuda = device.startswith("cuda")
    return _Stack(rows, stacked.pin_memory() if on_cuda else stacked, failures)


def _embedded(clip: Clip, stack: _Stack) -> Batch:
    if stack.pixels is None:
        return Batch(stack.rows, np.empty((0, clip.dim), np.float32), stack.failures)
    embeddings = clip.image_embeddings(stack.pixels)
    finite = np.asarray(np.isfinite(embeddings).all(axis=1))
    usable = finite & np.asarray(embeddings.any(axis=1))
    failures = dict(stack.failures)
    for row, is_finite in zip(stack.rows[~usable], finite[~usable], strict=True):
        what = "a zero embedding" if is_finite else "an embedding with NaN or infinity"
        failures[int(row)] = f"the model gave {what}"
    return Batch(stack.rows[usable], embeddings[usable], failures)
