"""The parts that the operators' forms share, and the checks that answer while a form is filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.dataset.centres import check_centre, read_centre
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of, read_origin
from fiftyone_isoclip.dataset.places import MODELS_DIR, is_below, model_folders
from fiftyone_isoclip.encoder import find_checkpoint, list_checkpoints
from fiftyone_isoclip.encoder.checkpoints import weights_path
from fiftyone_isoclip.errors import CheckpointError, IsoClipError
from fiftyone_isoclip.projector import Band

Context = Any
"""A fiftyone.operators.ExecutionContext; FiftyOne ships no types."""

REFUSAL = "refusal"
"""The part of a form that says why nothing can be done."""


def target_samples(ctx: Context) -> Any:
    """The samples the user chose: the dataset, the current view or the selection, ungrouped."""
    grouped = ctx.dataset.media_type == "group"
    # Beware: FiftyOne's own flattening fails on groups that a view makes, such as duplicates.
    samples = ctx.target_view(require_flat=grouped)
    return samples if grouped or samples.media_type != "group" else samples.flatten()


def check(prop: Any, test: Callable[[], object]) -> None:
    """Mark an input as invalid, with the sentence of the error that the test raises."""
    try:
        test()
    except IsoClipError as error:
        prop.invalid = True
        prop.error_message = str(error)


def refuse(inputs: types.Object, sentence: str) -> None:
    """Say why nothing can be done here; the form cannot be executed."""
    inputs.view(REFUSAL, types.Error(label=sentence), invalid=True, error_message=sentence)


def has_images(inputs: types.Object, samples: Any) -> bool:
    """Whether the samples are images; if not, the form says so."""
    try:
        dataset_of(samples)
    except IsoClipError as error:
        refuse(inputs, str(error))
        return False
    return True


def explain(inputs: types.Object, name: str, sentence: str) -> None:
    """Tell what will be written and how it is undone."""
    inputs.view(name, types.Notice(label=sentence))


def choose_model(inputs: types.Object, ctx: Context, default: str) -> None:
    """A known checkpoint from a list, or any other by its name or file."""
    choices = types.AutocompleteView(allow_user_input=True)
    for checkpoint in list_checkpoints():
        known = f"{checkpoint.architecture}, {Path(checkpoint.pretrained).stem}"
        band = checkpoint.image_band or "worked out from its spectrum"
        told = f"{known}; band {band}"
        choices.add_choice(checkpoint.name, label=checkpoint.name, description=told)
    chosen = inputs.str(
        "model",
        label="Model",
        description="A name from the list; or open_clip's ARCHITECTURE/TAG, "
        f"hf-hub:ORGANISATION/MODEL, or ARCHITECTURE//path/to/weights below {MODELS_DIR}. "
        "isoclip-demo is tiny and needs no download.",
        default=default,
        required=True,
        view=choices,
    )
    if asked := ctx.params.get("model"):
        check(chosen, lambda: _check_model(ctx, str(asked)))


def is_from_app(ctx: Context) -> bool:
    """Whether the App asks, at once or by a delegated run, and not Python."""
    return "operator_uri" in ctx.request_params


def _check_model(ctx: Context, name: str) -> None:
    """Refuse a name that is no checkpoint's, or from the App one of a file elsewhere.

    Who reaches the App need not be who owns the files of the machine it runs on.
    """
    path = weights_path(name)
    known = name in _checkpoints(ctx.dataset) or not is_from_app(ctx)
    # Before it is looked for: whether there is such a file is nobody's business.
    if path and not known and not any(is_below(path, folder) for folder in model_folders()):
        raise CheckpointError(
            f"{name!r} names a file, and the App reads weights from FiftyOne's model zoo and from "
            f"the folder that {MODELS_DIR} names only; put them there, or compute the embeddings "
            "in Python or with isoclip embed"
        )
    find_checkpoint(name)


def _checkpoints(dataset: fo.Dataset) -> set[str]:
    """The checkpoints of the embeddings that a dataset has."""
    origins = (read_origin(dataset, field) for field in plain_fields(dataset))
    return {origin.checkpoint for origin in origins if origin is not None}


def choose_band(inputs: types.Object, ctx: Context, origin: Any) -> None:
    """The directions to leave out, as text; empty is the checkpoint's own band."""
    own = find_checkpoint(origin.checkpoint).image_band or "worked out from its spectrum"
    band = inputs.str(
        "band",
        label="Band (top/bottom directions left out)",
        description=f"Empty: that of {origin.checkpoint}, {own}. 0/0 is plain CLIP. 150/50-centred "
        "compares from the centre that fit_centre() has stored.",
    )
    if asked := ctx.params.get("band"):
        check(band, lambda: _check_band(ctx, Band.parse(asked), origin))


def _check_band(ctx: Context, band: Band, origin: Any) -> None:
    band.count(origin.dim)
    if field := ctx.params.get("field"):
        check_centre(band, read_centre(ctx.dataset, field), field)


def parse_band(text: str | None) -> Band | None:
    """What ``choose_band`` was given: None for the checkpoint's own.

    Raises:
        BandError: it is not two counts such as ``150/50``.
    """
    return Band.parse(text) if text and text.strip() else None


def plain_fields(dataset: fo.Dataset) -> list[str]:
    """The sample fields of embeddings that say which checkpoint made them."""
    fields = dataset.get_field_schema(ftype=fo.VectorField)
    return [name for name in fields if read_origin(dataset, name) is not None]


def choose_field(inputs: types.Object, ctx: Context) -> str | None:
    """A field of embeddings from a list; None, and the form says so, where there are none."""
    fields = plain_fields(ctx.dataset)
    if not fields:
        refuse(
            inputs,
            f"Dataset {ctx.dataset.name!r} has no embeddings yet; "
            "run the operator IsoCLIP: Compute embeddings first",
        )
        return None
    default = DEFAULT_FIELD if DEFAULT_FIELD in fields else fields[0]
    inputs.enum("field", fields, label="Embeddings", default=default, required=True)
    chosen = ctx.params.get("field")
    return chosen if chosen in fields else default


def choose_labels(
    inputs: types.Object, dataset: fo.Dataset, description: str, *, required: bool
) -> list[str]:
    """A field of labels from a list, less the texts of this package's own; -> what it offers."""
    labels = dataset.get_field_schema(embedded_doc_type=fo.Classification)
    ours = {f"{name}_{end}" for name in plain_fields(dataset) for end in ("source", "error")}
    texts = dataset.get_field_schema(ftype=fo.StringField)
    offered = [*labels, *(text for text in texts if text not in ours | {"filepath"})]
    view = types.DropdownView()
    for name in offered:
        view.add_choice(name, label=name)
    inputs.str(
        "label_field",
        label="Labels" if required else "Labels (optional)",
        description=description,
        default=offered[0] if required and offered else None,
        required=required,
        view=view,
    )
    return offered
