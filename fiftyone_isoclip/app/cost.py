"""What computing embeddings will cost, told before it is begun."""

from __future__ import annotations

from typing import Any

from fiftyone_isoclip.app.forms import Context
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of, read_origin
from fiftyone_isoclip.dataset.sources import count_held
from fiftyone_isoclip.dataset.speeds import LEAST_IMAGES, recall_speed
from fiftyone_isoclip.encoder import find_checkpoint
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.encoder.devices import choose_device, choose_precision
from fiftyone_isoclip.errors import IsoClipError


def tell_cost(ctx: Context, samples: Any) -> str:
    """How many images, where, and how long by the last run: no file is looked at for it."""
    field = ctx.params.get("field") or DEFAULT_FIELD
    overwrite = bool(ctx.params.get("overwrite"))
    origin = read_origin(dataset_of(samples), field)
    name = ctx.params.get("model") or (origin.checkpoint if origin else DEMO_NAME)
    try:
        checkpoint = find_checkpoint(name).name
    except IsoClipError:
        return f"What {name} would cost is not known."
    if origin and origin.checkpoint != checkpoint and not overwrite:
        return (
            f"The field {field} holds {origin}; other weights are refused, unless all of it is "
            "computed again. Or choose another field."
        )
    held = count_held(samples, field)
    due = held.samples if overwrite else held.samples - held.vectors
    told = f"{due} of {held.samples} images have no embedding in {field} and are computed."
    if overwrite:
        told = f"All {due} images are computed."
    elif held.vectors:
        told += " Whether the files of the others changed is seen when it runs."
    return f"{told} {_tell_time(checkpoint, due)}"


def _tell_time(checkpoint: str, images: int) -> str:
    device = choose_device()
    precision = choose_precision("auto", device)
    place = f"{device}, {precision}"
    speed = recall_speed(checkpoint, str(device), precision)
    if speed is None:
        return (
            f"They run on {place}; how long they take is known once {LEAST_IMAGES} or more images "
            "have been embedded there in one go."
        )
    last = f"{speed:.3g} images a second of the last time on {place}"
    took = f"About {_words(images / speed)}" if images else "No time"
    return f"{took} at the {last}, and that of loading the model."


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{round(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"
