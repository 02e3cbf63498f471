"""The operator that says what each similarity means for the samples at hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_band,
    choose_field,
    has_images,
    parse_band,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.run_forms import name_result
from fiftyone_isoclip.app.steps import Step, Steps, follow
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.threshold_reports import (
    DEFAULT_KEY,
    METHOD,
    guide_view,
    recall_field,
)
from fiftyone_isoclip.dataset.thresholds import (
    AUTO,
    DEFAULT_FALSE_MATCHES,
    check_asked,
    one_in,
)
from fiftyone_isoclip.files.edit_recall import DEFAULT_PICTURES

if TYPE_CHECKING:
    from fiftyone_isoclip.evaluation.report import Table


class GuideThreshold(SteppedOperator):
    """Says from which similarity on false matches are rare, and which edits it recognises."""

    name_ = "guide_threshold"
    label = "IsoCLIP: Guide to a similarity"
    description = "From which similarity on your own images are duplicates: false matches and edits"

    def __call__(
        self,
        samples: Any,
        *,
        field: str = DEFAULT_FIELD,
        band: str | None = None,
        false_matches: float = DEFAULT_FALSE_MATCHES,
        pictures: int = DEFAULT_PICTURES,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {"field": field, "band": band, "false_matches": false_matches}
        return self.run(samples, params | {"pictures": pictures, "key": key}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if not has_images(inputs, target_samples(ctx)):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        choose_false_matches(inputs, ctx)
        inputs.int(
            "pictures",
            label="Pictures to edit",
            description="Drawn at random and edited in memory in 23 ways; 0 for none",
            min=0,
            default=DEFAULT_PICTURES,
            required=True,
        )
        choose_band(inputs, ctx, need_origin(ctx.dataset, field))
        name_result(inputs, ctx, DEFAULT_KEY, METHOD, lambda key: (recall_field(key),))

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Count false matches, edit pictures and save what came of it."""
        from fiftyone_isoclip.dataset import guide_threshold
        from fiftyone_isoclip.evaluation.threshold_page import edit_table, similarity_table

        params, samples = ctx.params, target_samples(ctx)
        yield Step("Reading the embeddings")
        report = yield from follow(
            "Measuring",
            lambda tell: guide_threshold(
                samples,
                field=params["field"],
                band=parse_band(params.get("band")),
                false_matches=params["false_matches"],
                pictures=params["pictures"],
                key=params["key"],
                progress=tell,
            ),
        )
        guide = report.guide
        edits = [_shown(edit_table(guide))] if len(guide.edits.rows) else []
        return {
            "key": report.key,
            "report": str(report),
            "suggested": report.suggested,
            "reason": guide.reason,
            "band": guide.band,
            "compared": guide.rates.n,
            "skipped": len(report.skipped),
            "edited": len(guide.edits.rows),
            "tables": [_shown(similarity_table(guide)), *edits],
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the pictures that were edited in the grid, the least recognised first."""
        yield ctx.ops.reload_dataset()
        ctx.dataset.reload()
        if result["edited"]:
            # Beware: by its name the App does not find a view saved after the page was loaded.
            yield ctx.ops.set_view(guide_view(ctx.dataset, result["key"]))
        told, variant = f"No similarity can be suggested. {result['reason']}", "warning"
        if (suggested := result["suggested"]) is not None:
            told = f"From similarity {suggested:g} on false matches are as rare as asked"
            variant = "success"
        yield ctx.ops.notify(told, variant=variant)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The verdict, and the tables it rests on."""
        outputs = types.Object()
        outputs.md(result.get("report", ""), name="told")
        for number, table in enumerate(result.get("tables") or []):
            outputs.md(table, name=f"table_{number}")
        outputs.int("compared", label="Different images compared")
        outputs.int("skipped", label="Images that could not be compared")
        outputs.int("edited", label="Pictures edited")
        outputs.str("band", label="Band")
        outputs.str("key", label="Saved view and run")
        return outputs


def choose_false_matches(inputs: types.Object, ctx: Context) -> None:
    """How rare false matches shall be."""
    rate = inputs.float(
        "false_matches",
        label="Share of all pairs of different files that may be false matches",
        description=f"{DEFAULT_FALSE_MATCHES:g} is {one_in(DEFAULT_FALSE_MATCHES)} pairs; "
        "near-copies count among them, so where they are many fewer are found",
        default=DEFAULT_FALSE_MATCHES,
        required=True,
    )
    if (asked := ctx.params.get("false_matches")) is not None:
        check(rate, lambda: check_asked(AUTO, asked))


def _shown(table: Table) -> str:
    """A table of a report in the App's words."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    cells = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return f"**{table.title}**\n\n{cells}\n\n{table.note}"
