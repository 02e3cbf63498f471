"""From what a user names, or a field records, to a loaded model."""

from __future__ import annotations

from fiftyone_isoclip.dataset.fields import Origin
from fiftyone_isoclip.dataset.model import IsoClipModel, load_model
from fiftyone_isoclip.encoder import Checkpoint, Clip
from fiftyone_isoclip.errors import DatasetError


def clip_of(model: str | Checkpoint | Clip | IsoClipModel) -> Clip:
    """The CLIP model that is meant: by its checkpoint, or itself.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        DatasetError: it is none of these things.
    """
    if isinstance(model, Clip):
        return model
    if isinstance(model, IsoClipModel):
        return model.clip
    if isinstance(model, Checkpoint):
        model = model.name
    if isinstance(model, str):
        return load_model(model).clip
    raise DatasetError(
        f"a checkpoint name, a Clip or an IsoClipModel is needed, found {type(model).__name__}"
    )


def clip_for(origin: Origin) -> Clip:
    """The model that made a field.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        DatasetError: it has other weights by now.
    """
    clip = load_model(origin.checkpoint).clip
    if clip.fingerprint != origin.fingerprint:
        raise DatasetError(
            f"the field was made by {origin.checkpoint} with weights {origin.fingerprint[:12]}, "
            f"that name now gives {clip.fingerprint[:12]}; "
            "bring the old weights back or embed() again with overwrite=True"
        )
    return clip
