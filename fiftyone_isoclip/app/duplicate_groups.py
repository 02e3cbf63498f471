"""What the operators that find duplicates share: parts of the form, and how groups are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context
from fiftyone_isoclip.app.run_forms import name_result
from fiftyone_isoclip.dataset import DEFAULT_KEEPER_RULE, KEEPER_RULES
from fiftyone_isoclip.dataset.groups import METHOD, DuplicateReport, field_names, groups_view

RULES = {
    "largest": "the largest",
    "sharpest": "the sharpest",
    "earliest": "the earliest",
    "most_labels": "the one with most labels",
}
OFFERED_TAGS = 20


def duplicates_result(report: DuplicateReport) -> dict[str, Any]:
    """What Python callers get, as JSON values."""
    return {
        "key": report.key,
        "groups": len(report.groups),
        "images": sum(1 + len(group.copies) for group in report.groups),
        "duplicates": report.n_duplicates,
        "exact": report.n_exact,
        "aliases": len(report.aliases),
        "bytes_freed": report.bytes_freed,
        "compared": report.n_compared,
        "skipped": report.n_skipped,
        "similarity": report.similarity,
        "false_matches": report.false_matches,
        "band": report.band,
    }


def reveal_groups(ctx: Context, result: dict[str, Any], nothing: str) -> Iterator[Any]:
    """Show the groups in the grid, or say that there are none."""
    yield ctx.ops.reload_dataset()
    if not result["groups"]:
        yield ctx.ops.notify(nothing, variant="info")
        return
    ctx.dataset.reload()
    # Beware: by its name the App does not find a view that was saved after the page was loaded.
    yield ctx.ops.set_view(groups_view(ctx.dataset, result["key"]))
    told = f"{result['groups']} groups of {result['images']} images; {result['duplicates']}"
    yield ctx.ops.notify(f"{told} of them could go, none was deleted", variant="success")


def describe_groups(result: dict[str, Any]) -> types.Object:
    """The form of a result: counts, and its name."""
    outputs = types.Object()
    outputs.int("groups", label="Groups")
    outputs.int("images", label="Images in groups")
    outputs.int("duplicates", label="Images that could go")
    outputs.int("exact", label="of these, byte-identical")
    outputs.int("aliases", label="Samples that share a file with another")
    outputs.int("compared", label="Images compared")
    outputs.int("skipped", label="Images that could not be compared")
    if result.get("false_matches") is not None:
        outputs.float("similarity", label="Similarity from which images are duplicates")
        label = "Share of all pairs of different files that reach it, near-copies included"
        outputs.float("false_matches", label=label)
    outputs.str("band", label="Band")
    outputs.str("key", label="Saved view and run")
    return outputs


def choose_rule(inputs: types.Object, dataset: fo.Dataset) -> None:
    """A list of the rules by which the keeper of a group is chosen."""
    rules = types.DropdownView()
    for rule in KEEPER_RULES:
        if rule in RULES:
            rules.add_choice(rule, label=f"Keep {RULES[rule]}")
    for tag in dataset.distinct("tags")[:OFFERED_TAGS]:
        rules.add_choice(f"tag:{tag}", label=f"Keep one with the tag {tag}")
    label = "Which of a group to keep"
    inputs.str("prefer", label=label, default=DEFAULT_KEEPER_RULE, required=True, view=rules)


def name_groups(inputs: types.Object, ctx: Context, default: str) -> None:
    """The key of the result, and what will be written under it."""
    name_result(inputs, ctx, default, METHOD, lambda key: field_names(key).values())
