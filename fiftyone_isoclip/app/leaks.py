"""The operator that finds images shared by two splits, or by two datasets, and shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    choose_band,
    choose_field,
    has_images,
    parse_band,
    target_samples,
)
from fiftyone_isoclip.app.leak_forms import (
    asked_splits,
    choose_drop,
    choose_other,
    choose_splits,
    splits_params,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.run_forms import name_result
from fiftyone_isoclip.app.steps import Steps, follow
from fiftyone_isoclip.dataset import DEFAULT_SIMILARITY
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.leak_report import DEFAULT_KEY, METHOD, field_names, leaks_view


class FindLeaks(SteppedOperator):
    """Finds images that are in two splits, or nearly the same as one in another split."""

    name_ = "find_leaks"
    label = "IsoCLIP: Find leaks between splits"
    description = "Find images that two splits, or two datasets, have in common; nothing is deleted"

    def __call__(
        self,
        samples: Any,
        *,
        splits: Sequence[str] | str | None = None,
        field: str = DEFAULT_FIELD,
        similarity: float = DEFAULT_SIMILARITY,
        band: str | None = None,
        other: str | None = None,
        drop: str | None = None,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python; ``other`` is a dataset's name; -> FiftyOne's ExecutionResult."""
        params = {"field": field, "similarity": similarity, "band": band, "key": key}
        params |= {"other": other, "drop": drop, **splits_params(splits)}
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        samples = target_samples(ctx)
        if not has_images(inputs, samples):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        splits = choose_splits(inputs, ctx, samples)
        choose_other(inputs, ctx, field)
        choose_drop(inputs, ctx, splits)
        inputs.float(
            "similarity",
            label="Similarity from which two images are a leak",
            description="A cosine: 1 is identical; lower finds more, and more that only look alike",
            min=-1,
            max=1,
            default=DEFAULT_SIMILARITY,
            required=True,
        )
        choose_band(inputs, ctx, need_origin(ctx.dataset, field))
        name_result(inputs, ctx, DEFAULT_KEY, METHOD, lambda key: field_names(key).values())

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Compare all images and save the leaks."""
        from fiftyone_isoclip.dataset import find_leaks

        params, samples = ctx.params, target_samples(ctx)
        report = yield from follow(
            "Comparing images",
            lambda tell: find_leaks(
                samples,
                splits=asked_splits(params),
                field=params["field"],
                similarity=params["similarity"],
                band=parse_band(params.get("band")),
                other=params.get("other") or None,
                drop=params.get("drop") or None,
                key=params["key"],
                progress=tell,
            ),
        )
        return {
            "key": report.key,
            "splits": list(report.splits),
            "pair_counts": [list(line) for line in report.matrix.pairs],
            "image_counts": [list(line) for line in report.matrix.images],
            "pairs": report.n_pairs,
            "leaked": report.n_leaked,
            "drop": report.n_drop,
            "both": report.n_both,
            "compared": report.n_compared,
            "skipped": report.n_skipped,
            "skipped_elsewhere": report.n_skipped_elsewhere,
            "unsplit": report.n_unsplit,
            "similarity": report.similarity,
            "band": report.band,
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the samples that leak in the grid."""
        yield ctx.ops.reload_dataset()
        if not result["leaked"]:
            told = f"None of {result['compared']} images is in two of {', '.join(result['splits'])}"
            yield ctx.ops.notify(told, variant="success")
            return
        ctx.dataset.reload()
        # Beware: by its name the App does not find a view that was saved after the page was loaded.
        yield ctx.ops.set_view(leaks_view(ctx.dataset, result["key"]))
        told = f"{result['leaked']} images leak into another split; {result['drop']} should go"
        yield ctx.ops.notify(f"{told}, none was removed. See the tab Leaks", variant="warning")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The counts of each two splits, and in all."""
        outputs = types.Object()
        outputs.md(matrix_table(result), name="matrix")
        outputs.int("leaked", label="Images that leak into another split")
        outputs.int("pairs", label="Pairs of images in different splits")
        outputs.int("drop", label="Images that should go")
        outputs.int("both", label="Images that are in two splits themselves")
        outputs.int("compared", label="Images compared")
        outputs.int("unsplit", label="Images in no split")
        outputs.int("skipped", label="Images that could not be compared")
        outputs.str("band", label="Band")
        outputs.str("key", label="Saved view and run")
        return outputs


def matrix_table(result: dict[str, Any]) -> str:
    """The images of one split (lines) that leak into another (columns), as Markdown."""
    splits = result.get("splits", [])
    lines = [["", *(f"in {split}" for split in splits)], ["---"] * (len(splits) + 1)]
    for row, split in enumerate(splits):
        counts = ["" if c == row else str(n) for c, n in enumerate(result["image_counts"][row])]
        lines.append([f"images of {split}", *counts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if splits else ""
