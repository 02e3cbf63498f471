"""The panel itself: which tab is shown, which events reach it, and what is said when it fails."""

from __future__ import annotations

import logging
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.operator import PANEL, TOKEN
from fiftyone_isoclip.app.panel.clusters import ClustersTab
from fiftyone_isoclip.app.panel.duplicates import DuplicatesTab
from fiftyone_isoclip.app.panel.leaks import LeaksTab
from fiftyone_isoclip.app.panel.page import PLOT, Page
from fiftyone_isoclip.app.panel.runs import RunsTab
from fiftyone_isoclip.app.panel.space import SpaceTab
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, recall
from fiftyone_isoclip.app.plan_tokens import is_panel_token
from fiftyone_isoclip.app.told import tell_error
from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.errors import IsoClipError

logger = logging.getLogger(__name__)

TABS: dict[str, Tab] = {
    tab.name: tab for tab in (DuplicatesTab(), LeaksTab(), ClustersTab(), SpaceTab(), RunsTab())
}
_FIRST = DuplicatesTab.name
_EVENTS = (
    None,
    "on_startup",
    "on_load",
    "on_unload",
    "act",
    "on_change_dataset",
    "on_change_view",
    "on_change_selected",
)
_STALE = "The App's server was started after this was drawn; press it again"


class IsoClipPanel(foo.Panel):
    """Reviews what the operators found; a browser can call the methods named by ``_EVENTS``."""

    @property
    def config(self) -> foo.PanelConfig:
        """How the App lists the panel."""
        return foo.PanelConfig(
            name=PANEL,
            label="IsoCLIP",
            help_markdown="Review duplicates, leaks between splits and clusters; compare spaces.",
            surfaces="grid",
            category=foo.Categories.CURATE,
            icon="content_copy",  # the App draws no picture of a plugin here
        )

    def execute(self, ctx: Context) -> Any:
        """Answer an event; what else FiftyOne would call by its name is none."""
        return super().execute(ctx) if ctx.params.get("__method__") in _EVENTS else None

    def act(self, ctx: Context) -> None:
        """Do what was pressed. An input that was changed needs nothing: it is shown anew."""
        tab, pressed = _tab(ctx), str(ctx.params.get("do") or "")
        clicked = str(ctx.params.get("path") or "").rsplit(".", 1)[-1].rpartition(PLOT)[2]
        if not pressed:
            action = tab.looks.get(clicked)
        elif is_panel_token(ctx.params.get(TOKEN)):
            action = tab.actions.get(pressed)
        else:
            ctx.ops.notify(_STALE, variant="warning")
            return
        if action is not None:
            _told(ctx, action)

    def on_change_dataset(self, ctx: Context) -> None:
        """Forget what was chosen on another dataset."""
        # Beware: the App calls this two or three times, and again for whatever it changes.
        if ctx.dataset is not None and recall(ctx, "dataset") != ctx.dataset.name:
            ctx.panel.state.clear()
            ctx.panel.set_state("dataset", ctx.dataset.name)

    def on_change_view(self, ctx: Context) -> None:
        """Draw the tab anew: an operator may have changed what it shows."""

    def on_change_selected(self, ctx: Context) -> None:
        """Draw the tab anew: it may be about the selected samples."""

    def render(self, ctx: Context) -> types.Property:
        """Draw the chosen tab."""
        drawn = types.Object()
        page = Page(drawn, self.act, _tab(ctx).name)
        page.tabs("tab", {name: tab.label for name, tab in TABS.items()}, _FIRST)
        try:
            dataset_of(ctx.dataset)
            _tab(ctx).show(ctx, page)
        except IsoClipError as error:
            page.notice(tell_error(error, ctx.params, logger), "warning")
        except Exception as error:
            page.notice(tell_error(error, ctx.params, logger), "error")
        inset = {"container": {"sx": {"px": 2, "pb": 4, "width": "100%"}}}
        view = types.GridView(orientation="vertical", gap=2, componentsProps=inset)
        return types.Property(drawn, view=view)


def _tab(ctx: Context) -> Tab:
    return TABS.get(recall(ctx, "tab", _FIRST), TABS[_FIRST])


def _told(ctx: Context, action: Action) -> None:
    try:
        action(ctx)
    except Exception as error:
        ctx.ops.notify(tell_error(error, ctx.params, logger), variant="error")
