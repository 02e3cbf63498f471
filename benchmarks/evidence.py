"""What does a checkpoint show of IsoCLIP, beside every baseline?

    python benchmarks/evidence.py --data ../shared/data --full

Each answer is what a command of `isoclip` says that anybody can run on folders of their own. The
pictures are scenes rendered here, none of them trained on, in one folder a class, and photographs
from --data where it is there. Without --model the self-trained demo weights are asked. --full
writes benchmarks/results/evidence.json (or evidence-MODEL.json), from which
scripts/write_evidence.py makes the tables of docs/evidence.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import Record

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME

FIRST_SCENE = 30_000_000
"""Training drew from 0 on, and the bands of the demo weights were chosen from 10 million on."""
SIDE = 96
ATTRIBUTES = ("object", "colour", "background_colour")
BANDS = ("4/32", "8/8", "16/16")


def render_worlds(folder: Path, count: int) -> None:
    """Draw scenes, and link each into the folder of its class, for every attribute."""
    for number in range(count):
        scene = render_scene(FIRST_SCENE + number, SIDE)
        drawn = folder / "drawn" / f"{number:05d}.png"
        drawn.parent.mkdir(parents=True, exist_ok=True)
        scene.image.save(drawn)
        for attribute in ATTRIBUTES:
            place = folder / attribute / scene.attributes[attribute]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(drawn, place / drawn.name)
        captions = folder / "captions.csv"
        with captions.open("a", encoding="utf-8") as file:
            file.write("" if number else "text,label\n")
            file.write(f"{scene.caption},{scene.attributes['object']}\n")


def questions(worlds: Path, data: Path, model: str) -> Iterator[tuple[str, list[str]]]:
    """What is asked, and the command that answers it; another checkpoint has its own band."""
    bands = ["--model", model]
    if model == DEMO_NAME:
        bands += [word for band in BANDS for word in ("--band", band)]
    for attribute in ATTRIBUTES:
        command = ["evaluate", str(worlds / attribute), *bands]
        yield f"rendered scenes: the same {attribute.replace('_', ' ')}", command
    captions = ["evaluate", "--texts", str(worlds / "captions.csv"), "--model", model]
    yield "captions of rendered scenes: the same object", captions
    clothes = data / "clothing_cc0"
    if clothes.is_dir():
        sides = [str(clothes / "validation"), "--queries", str(clothes / "test")]
        yield "photographs of clothes: the same kind", ["evaluate", *sides, *bands, "--oti"]
        yield (
            "photographs of clothes: a band by their labels",
            ["tune", str(clothes / "validation"), "--model", model],
        )
    copies = data / "copies_clothing_cc0"
    if copies.is_dir():
        yield "edited photographs: their originals", ["evaluate", str(copies), *bands]


def answer(command: list[str], folder: Path, report: Path | None) -> str:
    """Run `isoclip` -> the JSON that it writes."""
    file = folder / "answer.json"
    page = [] if report is None else ["--report", str(report)]
    words = [sys.executable, "-m", "fiftyone_isoclip.cli", *command, "--json", str(file), *page]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return file.read_text(encoding="utf-8")


def main() -> None:
    """Ask, and write down the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default=DEMO_NAME, help="a name of `isoclip models`")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--reports", type=Path, help="a folder to keep the HTML reports in")
    parser.add_argument("--full", action="store_true", help="write where results are kept")
    options = parser.parse_args()
    packages = ("torch", "open_clip_torch", "numpy", "scikit-learn", "pillow", "imagehash")
    of_demo = options.model == DEMO_NAME
    name = "evidence" if of_demo else f"evidence-{options.model.replace('/', '-')}"
    record = Record(name, question=__doc__.splitlines()[0], packages=packages)
    weights = "self-trained demo weights" if of_demo else "published weights"
    record.setup(checkpoint=options.model, weights=weights, scenes=options.scenes)
    with tempfile.TemporaryDirectory() as made:
        worlds = Path(made) / "scenes"
        render_worlds(worlds, options.scenes)
        if options.reports:
            options.reports.mkdir(parents=True, exist_ok=True)
        for number, (what, command) in enumerate(
            questions(worlds, options.data, options.model), start=1
        ):
            page = options.reports and options.reports / f"evidence-{number}.html"
            found = json.loads(answer(command, Path(made), page))
            found.pop("planes", None)  # a thousand scores of the half that was chosen on
            told = json.dumps({"command": " ".join(["isoclip", *command])} | found)
            # As a reader has it, whatever folders it ran in here.
            told = told.replace(str(worlds), "SCENES").replace(str(options.data), "DATA")
            record.results[what] = json.loads(told)
    record.write(options.full)


if __name__ == "__main__":
    main()
