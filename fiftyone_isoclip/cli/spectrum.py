"""`isoclip spectrum`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiftyone_isoclip.cli.options import Device, JsonFile, ModelName
from fiftyone_isoclip.cli.screen import note, report, show_table
from fiftyone_isoclip.cli.sources import load_model
from fiftyone_isoclip.files.reports import check_writable

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip


def check_plot(path: Path | None) -> Path | None:
    """Refuse a picture that could not be written, before the work instead of after it."""
    if path is not None:
        check_writable(path)
    return path


PlotFile = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.png",
        callback=check_plot,
        help="Draw the singular values with the band for images; .svg and .pdf work as well.",
        show_default=False,
    ),
]


def run_spectrum(
    model: ModelName = None,
    plot: PlotFile = None,
    json: JsonFile = None,
    device: Device = "cpu",
) -> None:
    """Show the spectrum of a checkpoint's inter-modal operator and the bands that go with it.

    The bottom of a band shows in the spectrum: where it falls away from the line through its
    middle half. The top does not: it depends on the task.
    """
    clip = load_model(model, device)
    found = _describe(clip)
    if plot is not None:
        from fiftyone_isoclip.cli.plots import draw_spectrum

        draw_spectrum(clip, plot)
        note(f"drew {plot}")
    rows = [(name.replace("_", " "), value) for name, value in found.items() if name != "values"]
    report(found, json, lambda: show_table(("", found["model"]), rows[1:]))


def _describe(clip: Clip) -> dict[str, Any]:
    checkpoint, spectrum = clip.checkpoint, clip.spectrum
    published = checkpoint.source if checkpoint.image_band else "from the spectrum, top by caution"
    return {
        "model": checkpoint.name,
        "rank": spectrum.rank,
        "embedding_dim": clip.image_head.dim,
        "image_condition": round(clip.image_head.condition, 2),
        "text_condition": round(clip.text_head.condition, 2),
        "bottom_by_line": spectrum.bottom_by_line(),
        "image_band": str(clip.image_band),
        "text_band": str(clip.text_band),
        "image_band_origin": published,
        "values": spectrum.values.tolist(),
    }
