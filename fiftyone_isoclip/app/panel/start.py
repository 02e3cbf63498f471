"""How an empty tab begins: with the embeddings that all needs, or with the tab's own work."""

from __future__ import annotations

from collections.abc import Mapping

from fiftyone_isoclip.app.forms import plain_fields
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Action, Context, prompt


def show_start(ctx: Context, page: Page, label: str, do: str) -> None:
    """The tab's first button; where there are no embeddings, the one that computes them."""
    if plain_fields(ctx.dataset):
        page.button(label, do, primary=True)
    else:
        page.say("It needs embeddings, and this dataset has none yet.")
        page.button("Compute embeddings", "compute_embeddings", primary=True)


def _compute(ctx: Context) -> None:
    prompt(ctx, "compute_embeddings")


START_ACTIONS: Mapping[str, Action] = {"compute_embeddings": _compute}
"""What a tab that shows ``show_start`` adds to its actions."""
