"""One tab of the panel: what it shows, and what it does when something on it is pressed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fiftyone_isoclip.app.operator import PANEL, PLUGIN, QUIET, TOKEN, purpose_of
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.plan_tokens import mint_token

Context = Any
"""A fiftyone.operators.ExecutionContext; FiftyOne ships no types."""

Action = Callable[[Context], None]
"""What an event does; ``ctx.params`` holds what the button or plot was given."""


class Tab(ABC):
    """Shows something about ``ctx.dataset``, which may have changed since the last event.

    ``actions`` and ``looks`` are the only functions that a browser can call, by their names.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    actions: ClassVar[Mapping[str, Action]]
    """What buttons do, which carry the secret of the panel."""
    looks: ClassVar[Mapping[str, Action]] = {}
    """What clicks on plots do, which carry nothing of ours: they change only what is shown."""

    @abstractmethod
    def show(self, ctx: Context, page: Page) -> None:
        """Draw the tab; called after every event, so it must be quick and write nothing."""


def recall(ctx: Context, name: str, default: Any = None) -> Any:
    """What was chosen on the panel under a name, or is remembered from an earlier event."""
    found = ctx.panel.get_state(name)
    return default if found is None else found


def remember(ctx: Context, name: str, value: Any) -> None:
    """Keep a small value for the next events: a number, a word, a few ids."""
    ctx.panel.set_state(name, value)


def prompt(
    ctx: Context, operator: str, *, ask: bool = True, about: str | None = None, **params: Any
) -> None:
    """Open the form of an operator of ours, or run it at once; the tab is drawn anew afterwards.

    It is about the whole dataset, not about what the grid happens to show; or about what the run
    of a key was about.
    """
    target: dict[str, Any] = {"view_target": "DATASET"}
    # Beware: of a run on all samples FiftyOne gives the dataset itself.
    stages = ctx.dataset.load_run_view(about).view()._serialize() if about else None
    if stages:
        target = {"view_target": "CUSTOM_VIEW_TARGET", "custom_view_target": stages}
    uri = f"{PLUGIN}/{operator}"
    # A form brings its own secret.
    asked = {} if ask else {QUIET: True, TOKEN: mint_token(purpose_of(uri, ctx.dataset))}
    ctx.prompt(
        uri,
        params={**target, **params, **asked},
        on_success=f"{PLUGIN}/{PANEL}#act",
        skip_prompt=not ask,
    )
