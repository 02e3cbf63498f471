"""The operator that makes stored embeddings searchable by image and by text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.databases import choose_one, choose_place, find_place
from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_band,
    choose_field,
    explain,
    has_images,
    parse_band,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps, by_bar, follow
from fiftyone_isoclip.dataset.brain_runs import delete_brain_run, is_index
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.locks import check_brain_key, hold
from fiftyone_isoclip.dataset.sources import count_held

DEFAULT_KEY = "isoclip_search"

STORAGES = {
    "float32": "float32: similarities as computed",
    "float16": "float16: half the room, similarities err by up to 5e-4",
}


class BuildSimilarityIndex(SteppedOperator):
    """Makes an index that the magnifier and the Similarity Search panel search."""

    name_ = "build_similarity_index"
    label = "IsoCLIP: Build similarity index"
    description = "Let the magnifier and the Similarity Search panel search by image and by text"

    def __call__(
        self,
        samples: Any,
        *,
        key: str = DEFAULT_KEY,
        field: str = DEFAULT_FIELD,
        band: str | None = None,
        storage: str = "float32",
        replace: bool = False,
        backend: str = "faiss",
        uri: str | None = None,
        text: bool = True,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params: dict[str, Any] = {"key": key, "field": field, "band": band}
        params |= {"storage": storage, "replace": replace}
        params |= {"backend": backend, "uri": uri, "text": text}
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        samples = target_samples(ctx)
        if not has_images(inputs, samples):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        asked = ctx.params.get("key") or DEFAULT_KEY
        key = inputs.str("key", label="Name of the index", default=DEFAULT_KEY, required=True)
        if is_index(ctx.dataset, asked):
            label = "Replace the index of that name"
            inputs.bool("replace", label=label, default=bool(ctx.params.get("replace")))
        check(key, lambda: _check_key(ctx, asked))
        choose_band(inputs, ctx, need_origin(ctx.dataset, field))
        choose_one(inputs, "storage", "Storage", STORAGES)
        backend = choose_place(inputs, ctx)
        held, asked_of = count_held(ctx.dataset, field).vectors, count_held(samples, field)
        lacking = asked_of.samples - asked_of.vectors
        explain(
            inputs,
            "writes",
            f"The index will hold the {held} images of the dataset that have a vector in {field}"
            + (f", after those of the {lacking} without one are embedded" if lacking else "")
            + (f", and {backend} a copy of them" if backend != "faiss" else "")
            + ". Use it with the magnifier above the grid or the panel Similarity Search. Writes "
            "a brain run; to undo, delete the index (panel IsoCLIP, tab Runs).",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Embed what is not embedded yet, and build the index."""
        from fiftyone_isoclip.dataset import build_similarity, embed, load_model

        key, field, storage = (ctx.params[name] for name in ("key", "field", "storage"))
        samples = target_samples(ctx)
        _check_key(ctx, key)
        place = find_place(ctx)  # before anything is embedded for a database that is away
        name = need_origin(ctx.dataset, field).checkpoint
        yield Step(f"Loading {name}")
        model = load_model(name, band=parse_band(ctx.params.get("band")))
        report = yield from follow(
            "Embedding", lambda tell: embed(samples, model, field, progress=by_bar(tell))
        )
        yield Step(f"Building the similarity index {key}")
        with hold(ctx.dataset, key):
            _check_key(ctx, key)
            build = partial(build_similarity, samples, model, field=field, storage=storage, **place)
            index = _replace(ctx.dataset, key, lambda name: build(brain_key=name))
        return {
            "key": key,
            "images": index.total_index_size,
            "embedded": report.computed,
            "failed": len(report.failed),
            "checkpoint": index.config.checkpoint,
            "band": index.config.band,
            "search": getattr(index.config, "search", None) or f"by {index.config.method}",
            "storage": index.config.storage,
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Make the magnifier know the index, and say how to use it."""
        yield ctx.ops.reload_dataset()
        told = f"{result['images']} images can be searched: select one and press the magnifier"
        yield ctx.ops.notify(f"{told}, or type words there", variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """What the index holds, and how it is searched."""
        outputs = types.Object()
        outputs.str("key", label="Similarity index")
        outputs.int("images", label="Images in the index")
        outputs.int("embedded", label="of these, embedded just now")
        outputs.int("failed", label="Images that could not be embedded")
        outputs.str("checkpoint", label="Checkpoint")
        outputs.str("band", label="Band for searches by image")
        outputs.str("search", label="Search by image")
        outputs.str("storage", label="Storage")
        return outputs


def _check_key(ctx: Context, key: str) -> None:
    """Refuse a name that is taken, unless an index of ours has it that is to be replaced."""
    if not (ctx.params.get("replace") and is_index(ctx.dataset, key)):
        check_brain_key(ctx.dataset, key)


def _replace(dataset: fo.Dataset, key: str, build: Callable[[str], Any]) -> Any:
    """Build an index; one that has its name, which may be replaced, goes once there is another."""
    if not dataset.has_brain_run(key):
        return build(key)
    draft = f"{key}_new"
    index = build(draft)
    try:
        delete_brain_run(dataset, key)
    except BaseException:
        delete_brain_run(dataset, draft)
        raise
    dataset.rename_brain_run(draft, key)
    return index
