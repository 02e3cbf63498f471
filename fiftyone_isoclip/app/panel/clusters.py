"""The tab Clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab


class ClustersTab(Tab):
    """Shows nothing yet."""

    name = "clusters"
    label = "Clusters"
    actions: ClassVar[Mapping[str, Action]] = {}

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        page.say("Clusters of **" + ctx.dataset.name + "**")
