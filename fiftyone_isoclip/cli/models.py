"""`isoclip models`."""

from __future__ import annotations

from dataclasses import asdict

from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import report, show_table
from fiftyone_isoclip.projector import Band


def run_models(json: JsonFile = None) -> None:
    """List the checkpoints with a name of their own, their bands, and where the bands come from.

    Every ARCHITECTURE/TAG of open_clip works as well; a band that is not published is worked out
    from the spectrum (see `isoclip spectrum`).
    """
    from fiftyone_isoclip.encoder import list_checkpoints

    known = list_checkpoints()
    values = [
        asdict(checkpoint)
        | {
            "image_band": _written(checkpoint.image_band),
            "text_band": _written(checkpoint.text_band),
        }
        for checkpoint in known
    ]

    def show() -> None:
        show_table(
            ("name", "image band", "text band", "source"),
            (
                (row["name"], row["image_band"] or "-", row["text_band"] or "-", row["source"])
                for row in values
            ),
        )

    report(values, json, show)


def _written(band: Band | None) -> str | None:
    return None if band is None else str(band)
