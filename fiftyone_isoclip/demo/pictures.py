"""The demonstration's picture files: photographs with planted copies among rendered scenes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fiftyone_isoclip import __version__
from fiftyone_isoclip.demo.photographs import Photograph, find_photographs
from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.files.edits import EDITS, edit_image

MANIFEST = "manifest.json"
COPIES_EACH = 12
SCENES = 120
ORIGINAL = "original"

_LONGEST_SIDE = 640
_FIRST_SCENE = 40_000_000
"""Far above the seeds that the demo weights were trained on."""
# A stereo pair: its two pictures are nearly alike, and neither is a planted copy of the other.
_AMBIGUOUS = ("motorcycle_right",)
_SUFFIXES = {"as png": ".png", "as webp": ".webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture file and what is true of it.

    Attributes:
        path: The file.
        source_group: Pictures with the same one show the same photograph or scene; empty if that
            is not known.
        copy_kind: "original", or a name of EDITS.
        caption: What a rendered scene shows; empty for photographs.
    """

    path: str
    source_group: str = ""
    copy_kind: str = ORIGINAL
    caption: str = ""


def make_pictures(
    folder: Path, *, copies_each: int = COPIES_EACH, scenes: int = SCENES
) -> list[Picture]:
    """Write the pictures into a folder of this package's own, or reuse those that lie there.

    What lies there is reused if it was made by this version with these numbers, and replaced as a
    whole if not. The kinds of copies take turns, so that each is planted about equally often.

    Args:
        folder: Where they go; nothing else may be kept there.
        copies_each: Planted copies of each photograph, at most the number of kinds.
        scenes: Rendered scenes, which have no copies.
    """
    asked = {"version": __version__, "copies_each": copies_each, "scenes": scenes}
    found = _read(folder, asked)
    if found is not None:
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pictures-") as made:
        staged = Path(made) / "new"
        staged.mkdir()
        pictures = [
            picture
            for number, photograph in enumerate(_sources())
            for picture in _plant(photograph, number, copies_each, staged)
        ]
        pictures += [_render(seed, staged) for seed in range(scenes)]
        content = {**asked, "pictures": [asdict(picture) for picture in pictures]}
        (staged / MANIFEST).write_text(json.dumps(content, indent=1))
        if folder.exists():
            folder.rename(Path(made) / "old")
        staged.rename(folder)
    return [_placed(picture, folder) for picture in pictures]


def _read(folder: Path, asked: dict[str, object]) -> list[Picture] | None:
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    pictures = [_placed(Picture(**one), folder) for one in content.pop("pictures")]
    whole = all(Path(picture.path).is_file() for picture in pictures)
    return pictures if whole and content == asked else None


def _placed(picture: Picture, folder: Path) -> Picture:
    """The manifest holds bare names, so that the folder may be moved."""
    path = str(folder / picture.path)
    return Picture(path, picture.source_group, picture.copy_kind, picture.caption)


def _sources() -> list[Photograph]:
    return [photograph for photograph in find_photographs() if photograph.name not in _AMBIGUOUS]


def _plant(
    photograph: Photograph, number: int, copies_each: int, folder: Path
) -> Iterator[Picture]:
    """The photograph's own bytes, then its copies."""
    name = f"{photograph.name}{photograph.path.suffix}"
    shutil.copyfile(photograph.path, folder / name)
    yield Picture(name, photograph.name)
    image = read_image(photograph.path)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    kinds = list(EDITS)
    for turn in range(min(copies_each, len(kinds))):
        kind = kinds[(number * copies_each + turn) % len(kinds)]
        suffix = _SUFFIXES.get(kind, ".jpg")
        name = f"{photograph.name}-{kind.replace(' ', '-')}{suffix}"
        edit_image(image, kind, seed=number).save(folder / name, quality=90)
        yield Picture(name, photograph.name, kind)


def _render(seed: int, folder: Path) -> Picture:
    scene = render_scene(_FIRST_SCENE + seed)
    name = f"scene-{seed:03d}.jpg"
    scene.image.save(folder / name, quality=90)
    return Picture(name, f"scene-{seed:03d}", caption=scene.caption)
