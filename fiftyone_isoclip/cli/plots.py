"""The pictures that `isoclip spectrum --plot` and `isoclip tune --plot` draw."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.sweep import Plane
from fiftyone_isoclip.evaluation.tuning_page import draw_plane
from fiftyone_isoclip.index.whole_files import write_whole


def draw_spectrum(clip: Clip, path: Path) -> None:
    """Draw the singular values relative to the largest, and the band for images.

    Raises:
        IsoClipError: the suffix is not that of a picture, or the file cannot be written.
    """
    values = clip.spectrum.values / clip.spectrum.values[0]
    kept = clip.image_band.of(len(values))
    # A Figure of its own needs no display and no global state, unlike pyplot.
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogy(np.arange(1, len(values) + 1), values, color="black", linewidth=1.2)
    axes.axvspan(
        kept.start + 0.5, kept.stop + 0.5, alpha=0.2, label=f"band {clip.image_band} (kept)"
    )
    axes.set(
        title=f"{clip.checkpoint.name}: inter-modal spectrum",
        xlabel="direction",
        ylabel="singular value / largest",
    )
    axes.margins(x=0)
    axes.legend(loc="lower left")
    _save(figure, path)


def draw_planes(planes: Sequence[Plane], checkpoint: str, path: Path) -> None:
    """Draw the map of all bands, without and with centring, side by side.

    Raises:
        IsoClipError: the suffix is not that of a picture, or the file cannot be written.
    """
    figure = Figure(figsize=(6 * len(planes), 5), layout="constrained")
    figure.suptitle(f"{checkpoint}: mAP by band, on the images to choose on")
    for axes, plane in zip(np.atleast_1d(figure.subplots(1, len(planes))), planes, strict=True):
        draw_plane(axes, plane)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    drawn = BytesIO()
    try:
        figure.savefig(drawn, format=path.suffix.lstrip(".").lower() or "png", dpi=150)
    except ValueError as error:
        raise IsoClipError(f"{path} cannot be drawn: {error}") from error
    write_whole(path, lambda file: file.write(drawn.getbuffer()), drawn.tell())
