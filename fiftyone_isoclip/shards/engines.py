"""What can run the work on a store."""

from __future__ import annotations

from fiftyone_isoclip.errors import IsoClipError

ENGINES = ("local", "ray")


def check_engine(name: str, workers: int | None) -> None:
    """Refuse an engine that there is none of, and workers where there are none.

    Raises:
        IsoClipError: as said.
    """
    if name not in ENGINES:
        raise IsoClipError(f"the engine {name!r} was asked for; choose {' or '.join(ENGINES)}")
    if workers is not None and name != "ray":
        raise IsoClipError(
            f"workers were asked for ({workers}), and the engine {name} has none; choose the "
            "engine ray, or leave them out"
        )
