"""The operator that finds near-duplicates and shows them in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.duplicate_groups import (
    choose_rule,
    describe_groups,
    duplicates_result,
    name_groups,
    reveal_groups,
)
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
from fiftyone_isoclip.app.steps import Steps, follow
from fiftyone_isoclip.app.thresholds import choose_false_matches
from fiftyone_isoclip.dataset import DEFAULT_KEEPER_RULE, DEFAULT_SIMILARITY
from fiftyone_isoclip.dataset.duplicates import check_at_most
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.groups import DEFAULT_KEY
from fiftyone_isoclip.dataset.thresholds import (
    AUTO,
    DEFAULT_FALSE_MATCHES,
    check_asked,
    room_below,
)

BY_SIMILARITY, BY_FALSE_MATCHES = "similarity", "false matches"
"""The two ways to say which images are duplicates."""


class FindNearDuplicates(SteppedOperator):
    """Groups images that show the same picture, and says which of each group to keep."""

    name_ = "find_near_duplicates"
    label = "IsoCLIP: Find near-duplicates"
    description = "Group images that show the same picture; nothing is deleted"

    def __call__(
        self,
        samples: Any,
        *,
        field: str = DEFAULT_FIELD,
        similarity: float | str = DEFAULT_SIMILARITY,
        false_matches: float | None = None,
        band: str | None = None,
        prefer: str = DEFAULT_KEEPER_RULE,
        at_most: float | None = None,
        least: float | None = None,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        check_asked(similarity, false_matches)
        params: dict[str, Any] = {"field": field, "prefer": prefer, "key": key}
        if similarity == AUTO:
            rate = DEFAULT_FALSE_MATCHES if false_matches is None else false_matches
            params |= {"by": BY_FALSE_MATCHES, "false_matches": rate}
        else:
            params |= {"by": BY_SIMILARITY, "similarity": similarity}
        params |= {"band": band, "at_most": at_most, "least": least}
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if not has_images(inputs, target_samples(ctx)):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        _choose_threshold(inputs, ctx)
        going = inputs.float(
            "at_most",
            label="Let at most so many go (optional)",
            description="A count, or a share such as 0.05: the most certain duplicates remain",
            min=0,
        )
        check(going, lambda: check_at_most(ctx.params.get("at_most") or None))
        choose_rule(inputs, ctx.dataset)
        choose_band(inputs, ctx, need_origin(ctx.dataset, field))
        name_groups(inputs, ctx, DEFAULT_KEY)

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Compare all pairs and save the groups."""
        from fiftyone_isoclip.dataset import find_duplicates

        params = ctx.params
        samples, least = target_samples(ctx), params.get("least")
        similarity, false_matches = _threshold(params)
        if least is None and similarity != AUTO:
            least = room_below(float(similarity))
        report = yield from follow(
            "Comparing images",
            lambda tell: find_duplicates(
                samples,
                field=params["field"],
                similarity=similarity,
                false_matches=false_matches,
                band=parse_band(params.get("band")),
                prefer=params["prefer"],
                at_most=params.get("at_most") or None,
                least=least,
                key=params["key"],
                progress=tell,
            ),
        )
        return duplicates_result(report)

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the groups in the grid."""
        nothing = f"No two of {result['compared']} images are as similar as {result['similarity']}"
        yield from reveal_groups(ctx, result, nothing)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and how the result is undone."""
        return describe_groups(result)


def _choose_threshold(inputs: types.Object, ctx: Context) -> None:
    """From where on images are duplicates: a similarity, or how rare false matches shall be."""
    view = types.RadioGroup()
    view.add_choice(BY_SIMILARITY, label="From a similarity on")
    view.add_choice(BY_FALSE_MATCHES, label="As far as false matches stay rare")
    label = "Which images are duplicates"
    inputs.enum("by", view.values(), label=label, default=BY_SIMILARITY, view=view)
    if ctx.params.get("by") == BY_FALSE_MATCHES:
        choose_false_matches(inputs, ctx)
        return
    inputs.float(
        "similarity",
        label="Similarity from which images are duplicates",
        description="A cosine: 1 is identical; lower finds more, and more that only look alike",
        min=-1,
        max=1,
        default=DEFAULT_SIMILARITY,
        required=True,
    )


def _threshold(params: dict[str, Any]) -> tuple[float | str, float | None]:
    """The similarity and the rate of false matches that were asked for.

    The App keeps what was typed into a part of the form that is no longer shown.
    """
    if params.get("by") == BY_FALSE_MATCHES:
        return AUTO, params["false_matches"]
    return params["similarity"], None
