"""The parts of the form for leaks: which splits, which other dataset, which side goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.dataset.splits import (
    MOST_SPLITS,
    SPLIT_FIELD,
    SPLIT_TAGS,
    TAGS,
    comparable_datasets,
    few_values,
    split_fields,
)

FIELD = "field"
WHOLE = "whole"
OFFERED_TAGS = 100
WAYS = {
    TAGS: "Tags: each split is a tag",
    FIELD: "A field that holds the name of the split",
    WHOLE: "None: everything here is one split, compared with another dataset",
}


def asked_splits(params: dict[str, Any]) -> Sequence[str] | str | None:
    """What ``choose_splits`` was given, as ``find_leaks`` takes it."""
    way = params.get("splits_by")
    if way == TAGS:
        return list(params.get("tags") or [])
    if way == FIELD:
        return params.get("split_field")
    return [] if way == WHOLE and params.get("other") else None


def choose_splits(inputs: types.Object, ctx: Context, samples: Any) -> list[str]:
    """Where the splits are read from; -> their names."""
    counts, fields = samples.count_sample_tags(), split_fields(ctx.dataset)
    usual = [tag for tag in SPLIT_TAGS if tag in counts]
    default = TAGS if len(usual) > 1 or SPLIT_FIELD not in fields else FIELD
    ways = types.RadioView()
    for way, told in WAYS.items():
        if way != WHOLE or ctx.params.get("other"):
            ways.add_choice(way, label=told)
    inputs.str("splits_by", label="Splits", default=default, view=ways)
    way = ctx.params.get("splits_by") or default
    if way == WHOLE and not ctx.params.get("other"):
        way = default
    if way == TAGS:
        return _choose_tags(inputs, ctx, counts, usual)
    return _choose_split_field(inputs, ctx, samples, fields) if way == FIELD else []


def _choose_tags(
    inputs: types.Object, ctx: Context, counts: dict[str, int], usual: list[str]
) -> list[str]:
    asked = list(ctx.params.get("tags") or usual)
    tags = types.AutocompleteView(multiple=True, allow_user_input=False, allow_duplicates=False)
    for tag in sorted(counts, key=lambda tag: -counts[tag])[:OFFERED_TAGS]:
        tags.add_choice(tag, label=f"{tag} ({counts[tag]})")
    prop = inputs.list("tags", types.String(), label="Tags", default=usual, view=tags)
    lacking = [tag for tag in asked if tag not in counts]
    if lacking or len(asked) < _least(ctx):
        prop.invalid = True
        prop.error_message = (
            f"No image here has the tag {lacking[0]}"
            if lacking
            else "Choose the tags of two splits or more; none yet? Tag the images of each split"
        )
    return asked


def _choose_split_field(
    inputs: types.Object, ctx: Context, samples: Any, fields: list[str]
) -> list[str]:
    default = SPLIT_FIELD if SPLIT_FIELD in fields else None
    prop = inputs.enum("split_field", fields, label="Field", default=default)
    asked = ctx.params.get("split_field") or default
    values = few_values(samples, asked) if asked in fields else []
    if values is None or len(values) < _least(ctx):
        told = f"more than {MOST_SPLITS}" if values is None else str(len(values))
        prop.invalid = True
        prop.error_message = (
            f"{asked} has {told} values here, and two to {MOST_SPLITS} splits are compared"
            if asked in fields
            else "Choose the field that holds the name of the split"
        )
    return values or []


def _least(ctx: Context) -> int:
    return 1 if ctx.params.get("other") else 2


def choose_other(inputs: types.Object, ctx: Context, field: str) -> None:
    """Another dataset with embeddings of the same checkpoint, if there are any."""
    names = comparable_datasets(ctx.dataset, field)
    if not names:
        return
    datasets = types.AutocompleteView(allow_user_input=False)
    for name in names:
        datasets.add_choice(name, label=name)
    other = inputs.str(
        "other",
        label="Another dataset to compare with (optional)",
        description="It counts as one more split; nothing is written there",
        view=datasets,
    )
    if ctx.params.get("other") not in (None, "", *names):
        other.invalid = True
        other.error_message = f"{ctx.params['other']} has no embeddings of the same checkpoint"


def choose_drop(inputs: types.Object, ctx: Context, splits: list[str]) -> None:
    """The split that gives way to all others."""
    if len(splits) < 2:
        return
    choices = types.DropdownView()
    for split in splits:
        choices.add_choice(split, label=f"From {split}")
    drop = inputs.str(
        "drop",
        label="Which side should go (optional)",
        description="Empty: train gives way to validation and that to test; of splits with other "
        "names the larger one gives way",
        view=choices,
    )
    if ctx.params.get("drop") not in (None, "", *splits):
        drop.invalid = True
        drop.error_message = f"{ctx.params['drop']} is none of {', '.join(splits)}"


def splits_params(splits: Sequence[str] | str | None) -> dict[str, Any]:
    """The form's inputs for splits as ``find_leaks`` takes them."""
    if splits is None:
        return {}
    if isinstance(splits, str):
        return {"splits_by": FIELD, "split_field": splits}
    return {"splits_by": TAGS, "tags": list(splits)} if splits else {"splits_by": WHOLE}


def params_again(run: SavedRun) -> dict[str, Any]:
    """The form's inputs that a run was made with."""
    asked = {name: run.parameters[name] for name in ("field", "similarity", "drop")}
    others = list((run.parameters["other"] or {}).values())
    # The form takes one other dataset.
    asked |= {"other": others[0] if others else None, "band": run.band, "key": run.key}
    asked |= splits_params(run.parameters["splits"])
    return {name: value for name, value in asked.items() if value is not None}
