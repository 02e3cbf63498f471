"""The tab Duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab


class DuplicatesTab(Tab):
    """Shows nothing yet."""

    name = "duplicates"
    label = "Duplicates"
    actions: ClassVar[Mapping[str, Action]] = {}

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        page.say("Duplicates of **" + ctx.dataset.name + "**")
