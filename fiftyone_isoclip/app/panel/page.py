"""What a tab draws on: short words for FiftyOne's types, every event going to one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import fiftyone.operators.types as types

from fiftyone_isoclip.app.operator import TOKEN
from fiftyone_isoclip.app.plan_tokens import panel_token

Severity = Literal["info", "warning", "error", "success"]

PLOT = "plot_"
"""What stands before the action in the name of a plot."""

_NOTICES = {
    "info": types.Notice,
    "warning": types.Warning,
    "error": types.Error,
    "success": types.Success,
}


def cosine_text(cosine: float) -> str:
    """A cosine with four digits; what is not 1 does not look like it."""
    return ">0.9999" if 0.99995 <= cosine < 1 else f"{cosine:.4f}"


class Page:
    """A part of the panel, from top to bottom or, if it is a row, from left to right.

    Inputs keep their value under their name; all else is drawn anew each time. ``do`` names an
    action of the tab, and the keyword arguments after it are in its ``ctx.params``.
    """

    def __init__(self, drawn: types.Object, event: Any, tab: str) -> None:
        self._drawn = drawn
        self._event = event
        # Beware: the App keeps what it drew under a name, also when another tab takes its place.
        self._tab = tab
        self._count = 0

    def say(self, markdown: str) -> None:
        """Text, as Markdown."""
        self._drawn.md(markdown, name=self._name())

    def notice(self, sentence: str, severity: Severity = "info") -> None:
        """A sentence in a coloured box."""
        self._drawn.view(self._name(), _NOTICES[severity](label=sentence))

    def heading(self, text: str) -> None:
        """The title of a part; Markdown's own headings are far larger than a panel's text."""
        self.say(f"**{text.upper()}**")

    def row(self, *, gap: int = 2) -> Page:
        """A part that goes from left to right."""
        return Page(
            self._drawn.h_stack(self._name(), gap=gap, align_y="top"), self._event, self._tab
        )

    def card(self) -> Page:
        """A framed part that goes from top to bottom."""
        inset = {"container": {"sx": {"p": 1}}}
        drawn = self._drawn.v_stack(self._name(), variant="outline", gap=1, componentsProps=inset)
        return Page(drawn, self._event, self._tab)

    def column(self) -> Page:
        """A part without a frame that goes from top to bottom."""
        return Page(self._drawn.v_stack(self._name(), gap=1), self._event, self._tab)

    def picture(self, path: str, alt: str, *, height: int = 120) -> None:
        """An image file of the dataset, at this height in pixels."""
        # Without this, the App squeezes a picture that is wider than its column.
        whole = {"image": {"style": {"objectFit": "contain", "maxWidth": "100%"}}}
        view = types.ImageView(height=f"{height}px", alt=alt, componentsProps=whole)
        source = f"/media?filepath={quote(path)}"
        self._drawn.define_property(self._name(), types.String(), default=source, view=view)

    def button(
        self,
        label: str,
        do: str,
        *,
        primary: bool = False,
        disabled: bool = False,
        title: str | None = None,
        **params: Any,
    ) -> None:
        """A button that calls an action of the tab."""
        self._drawn.btn(
            self._name(),
            label=label,
            on_click=self._event,
            params={"do": do, TOKEN: panel_token(), **params},
            variant="contained" if primary else "outlined",
            disabled=disabled,
            title=title,
        )

    def plot(
        self, traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], do: str | None = None
    ) -> None:
        """A plotly figure; with ``do``, a click calls this look of the tab with x, y, z, idx."""
        # The App gives a plot's handler no parameters of ours, only where the plot stands.
        name = self._name() if do is None else f"{self._tab}_{PLOT}{do}"
        handler = {} if do is None else {"on_click": self._event}
        shown = {
            "showlegend": len(traces) > 1,
            "margin": {"l": 50, "r": 10, "t": 10, "b": 40},
            "height": 220,
            **layout,
        }
        config = {"displayModeBar": False}
        # Beware: the App ignores the layout's showlegend.
        drawn = [{"showlegend": False, **trace} for trace in traces]
        self._drawn.plot(name, data=drawn, layout=shown, config=config, **handler)

    def choose(
        self, name: str, label: str, choices: Mapping[str, str], default: str | None = None
    ) -> None:
        """A list to choose from: value -> what is shown."""
        view = types.DropdownView()
        for value, shown in choices.items():
            view.add_choice(value, label=shown)
        self._drawn.str(name, view=view, label=label, default=default, on_change=self._event)

    def slider(
        self, name: str, label: str, least: float, most: float, step: float, default: float
    ) -> None:
        """A slider; a change is told when it is let go."""
        view = types.SliderView(
            min=least,
            max=most,
            view_multiple_of=step,
            value_label_display="auto",
            value_precision=len(f"{step:g}".partition(".")[2]),
            label_position="top",
            # The App leaves more room above and below it than it takes itself.
            componentsProps={"slider": {"sx": {"display": "block", "mt": "-8px", "mb": "-60px"}}},
        )
        self._drawn.float(
            name, label=label, min=least, max=most, view=view, default=default,
            on_change=self._event,
        )  # fmt: skip

    def number(self, name: str, label: str, default: float, *, least: float, most: float) -> None:
        """A number to type."""
        self._drawn.float(name, label=label, min=least, max=most, default=default)

    def text(self, name: str, label: str, default: str | None = None) -> None:
        """A line of text to type."""
        self._drawn.str(name, label=label, default=default)

    def redraw(self, seconds: int) -> None:
        """Have the panel drawn anew after some seconds, for what goes on elsewhere."""
        timer = types.TimerView(interval=1000 * seconds, on_interval=self._event)
        self._drawn.view(f"{self._tab}_timer", timer)

    def tabs(self, name: str, choices: Mapping[str, str], default: str) -> None:
        """A row of tabs: value -> what is shown."""
        view = types.TabsView()
        for value, shown in choices.items():
            view.add_choice(value, label=shown)
        self._drawn.str(name, view=view, default=default, on_change=self._event)

    def _name(self) -> str:
        self._count += 1
        return f"{self._tab}_part{self._count}"
