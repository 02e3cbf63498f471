"""Plots as pictures inside a page, legible on a light and on a dark ground."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SVG_BYTES = 300_000
_INK = "#010203"
"""A colour nobody draws in: it stands for the colour of the page's text."""
_INKS = "<style>:root{color:#1c2430}@media(prefers-color-scheme:dark){:root{color:#dfe4ea}}</style>"
_COLOURS = ("#3b82c4", "#d9822b", "#3f9c6b", "#b5569b", "#8a8f98", "#c4493d", "#8b6fc9", "#a08a2c")
"""Told apart, and legible, on white as on near-black."""
_STYLE: dict[str, Any] = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10.5,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "lines.linewidth": 1.8,
    "patch.linewidth": 0.0,
    "svg.hashsalt": "fiftyone-isoclip",  # the same plot is the same file
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_NO_NOTES = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw_plot(draw: Callable[[Axes], None], size: tuple[float, float]) -> str:
    """Draw on new axes of a size in inches -> a ``data:`` address of an SVG, or a PNG if smaller.

    An SVG's axes and words have the colour of the page's text; a PNG stands on white.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    style: Any = _STYLE | {"axes.prop_cycle": cycler(color=_COLOURS)}
    with mpl.rc_context(style):
        # A Figure of its own needs no display and no global state, unlike pyplot.
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata=_NO_NOTES)
        if drawn.tell() <= _MOST_SVG_BYTES:
            return as_address(_with_inks(drawn.getvalue().decode()).encode(), "svg+xml")
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=150, facecolor="white")
    return as_address(drawn.getvalue(), "png")


def as_address(content: bytes, kind: str) -> str:
    """The ``data:`` address of a picture."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def _with_inks(svg: str) -> str:
    start = svg.index("<svg")
    opened = svg.index(">", start) + 1
    return (svg[start:opened] + _INKS + svg[opened:]).replace(_INK, "currentColor")
