"""Real photographs that already lie inside installed packages: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fiftyone_isoclip.errors import IsoClipError


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph on disk.

    Attributes:
        name: A short name, unique among the photographs.
        path: The image file, inside an installed package: never to be written to.
        source: The package it comes with.
    """

    name: str
    path: Path
    source: str


# Package, folder inside it, file names. Drawings, scans of text and masks are left out.
_KNOWN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "skimage",
        "data",
        (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "cell.png",
            "chelsea.png",
            "clock_motion.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "moon.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "page.png",
            "retina.jpg",
            "rocket.jpg",
            "text.png",
        ),
    ),
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
    ("matplotlib", "mpl-data/sample_data", ("grace_hopper.jpg",)),
)


def find_photographs() -> list[Photograph]:
    """List the photographs that are really there, in a fixed order.

    Raises:
        IsoClipError: None was found, because the packages were installed without their data.
    """
    found = []
    for package, folder, names in _KNOWN:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        home = Path(spec.origin).parent / folder
        paths = [home / name for name in names]
        found += [Photograph(path.stem, path, package) for path in paths if path.is_file()]
    if not found:
        raise IsoClipError(
            "the demonstration looks for photographs inside scikit-image, scikit-learn and "
            "matplotlib, and found none; install scikit-image, or use a folder of your own"
        )
    return found
