"""A folder of pictures with what such folders hold: copies, links and damage."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fiftyone_isoclip.demo.scenes import render_scene

N_SCENES = 10
SIDE = 96


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the pictures are; ``readable`` lists each real picture once, sorted."""

    path: Path
    scenes: list[str]
    exact_copy: str  # of scenes[3]
    recompressed: str  # scenes[5] as JPEG
    link: str  # to scenes[1]
    damaged: list[str]

    @property
    def readable(self) -> list[str]:
        return sorted([*self.scenes, self.exact_copy, self.recompressed])


def fill_folder(path: Path) -> Folder:
    """Write the scenes as PNG files, two copies, a link and three damaged files."""
    (path / "sub folder").mkdir(parents=True)
    scenes = [path / f"scene [{seed}].png" for seed in range(N_SCENES)]
    for seed, file in enumerate(scenes):
        render_scene(seed, SIDE).image.convert("RGB").save(file)
    exact = path / "sub folder" / "kopi\næ.png"
    shutil.copyfile(scenes[3], exact)
    recompressed = path / "sub folder" / "five.jpg"
    with Image.open(scenes[5]) as image:
        image.save(recompressed, quality=75)
    link = path / "a link.png"
    link.symlink_to(scenes[1].name)
    damaged = [path / name for name in ("cut.png", "page.jpg", "page2.jpg")]
    damaged[0].write_bytes(scenes[2].read_bytes()[:900])
    for page in damaged[1:]:
        page.write_bytes(b"<html>not found</html>")
    (path / "notes.txt").write_text("nothing")
    return Folder(
        path, [*map(str, scenes)], str(exact), str(recompressed), str(link), [*map(str, damaged)]
    )
