"""The panel without a browser: what it draws, what it keeps, and what it tells the App."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import fiftyone as fo
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_isoclip.app.panel import IsoClipPanel
from fiftyone_isoclip.app.plan_tokens import panel_token
from fiftyone_isoclip.install import PLUGIN_NAME


class Panel:
    """The real panel without a browser: what the App keeps of it, what it shows and tells."""

    def __init__(self, dataset: fo.Dataset, tab: str) -> None:
        self.dataset = dataset
        self.state: dict[str, Any] = {"tab": tab, "dataset": dataset.name}
        self.told: dict[str, Any] = {}
        self._panel = IsoClipPanel()
        self._panel.plugin_name = PLUGIN_NAME

    def send(self, method: str = "on_load", **params: Any) -> list[dict[str, Any]]:
        """Send an event; -> all that is drawn afterwards, parts within parts as a flat list."""
        request = {"panel_id": "p", "panel_state": self.state, "__method__": method, **params}
        asked = {"dataset_name": self.dataset.name, "params": request}
        ctx = ExecutionContext(request_params=asked, executor=Executor())
        self._panel.execute(ctx)
        sent = [(each.operator_uri, each.params or {}) for each in ctx.executor._requests]
        self.told = {name.rsplit("/", 1)[-1]: told for name, told in sent}
        self.state = ctx.panel.state._data
        shown = self._panel.render(ctx).to_json()
        json.dumps([self.state, shown])
        return list(_parts(shown))

    def do(self, action: str, **params: Any) -> list[dict[str, Any]]:
        """Do what a button does, whether or not it is shown."""
        return self.send("act", do=action, token=panel_token(), **params)

    def press(self, label: str) -> list[dict[str, Any]]:
        """Press the button whose label begins like this."""
        (button,) = [b for b in views(self.send(), "Button") if b["label"].startswith(label)]
        assert not button["disabled"]
        return self.send("act", **button["params"])


def _parts(shown: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield shown
    for part in (shown["type"].get("properties") or {}).values():
        yield from _parts(part)


def views(parts: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The views of a kind, in the order in which they are drawn."""
    return [part["view"] for part in parts if (part["view"] or {}).get("name") == name]


def texts(parts: list[dict[str, Any]]) -> str:
    """All that is said, line by line."""
    said = [p["default"] for p in parts if (p["view"] or {}).get("name") == "MarkdownView"]
    boxes = [(part["view"] or {}).get("label") or "" for part in parts]
    return "\n".join(filter(None, [*said, *boxes]))


def pictures_of(parts: list[dict[str, Any]]) -> list[str]:
    """The files of the pictures, in the order in which they are drawn."""
    held = [part["default"] for part in parts if (part["view"] or {}).get("name") == "ImageView"]
    return [unquote(source.removeprefix("/media?filepath=")) for source in held]


def grid(panel: Panel) -> set[str]:
    """The ids of the samples that the panel put into the grid."""
    view = fo.DatasetView._build(panel.dataset, panel.told["set_view"]["view"])
    return set(view.values("id"))
