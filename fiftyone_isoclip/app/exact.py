"""The operator that finds byte-identical files."""

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
from fiftyone_isoclip.app.forms import Context, has_images, target_samples
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset import DEFAULT_KEEPER_RULE
from fiftyone_isoclip.dataset.groups import EXACT_KEY


class FindExactDuplicates(SteppedOperator):
    """Groups images whose files hold the same bytes."""

    name_ = "find_exact_duplicates"
    label = "IsoCLIP: Find exact duplicates"
    description = "Group images whose files are byte-identical; needs no embeddings"

    def __call__(
        self,
        samples: Any,
        *,
        prefer: str = DEFAULT_KEEPER_RULE,
        key: str = EXACT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"prefer": prefer, "key": key}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if has_images(inputs, target_samples(ctx)):
            choose_rule(inputs, ctx.dataset)
            name_groups(inputs, ctx, EXACT_KEY)

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Compare files by their bytes and save the groups."""
        from fiftyone_isoclip.dataset import find_exact_duplicates

        params = ctx.params
        yield Step("Comparing files of equal size, byte by byte")
        samples = target_samples(ctx)
        report = find_exact_duplicates(samples, prefer=params["prefer"], key=params["key"])
        return duplicates_result(report)

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the groups in the grid."""
        nothing = f"No two of {result['compared']} files hold the same bytes"
        yield from reveal_groups(ctx, result, nothing)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and how the result is undone."""
        return describe_groups(result)
