"""Does an edited copy find its original? Recall@1 of the self-trained demo weights.

    python benchmarks/demo_checkpoint.py --copies ../shared/data/copies_clothing_cc0

Photographs: groups.csv names file, group and attack; the queries are the attacked copies, the
gallery is the originals and the distractors. Rendered scenes, none of them trained on, go through
the kinds of `fiftyone_isoclip.files.edits`: bands are chosen on these, and only reported on
photographs. With --full it writes benchmarks/results/demo_checkpoint.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder.clip import Clip, load_clip
from fiftyone_isoclip.files.edits import EDITS, edit_image
from fiftyone_isoclip.projector import WHOLE, Band

RESULTS = Path(__file__).parent / "results"
FIRST_HELD_OUT = 10_000_000
BANDS = (
    WHOLE,
    *(Band(top, 0) for top in (2, 4, 8, 16)),
    *(Band(0, bottom) for bottom in (8, 16, 32)),
    *(Band(*counts) for counts in ((4, 16), (4, 32), (8, 8), (8, 32), (16, 16))),
)
Vectors = NDArray[np.float32]
Names = NDArray[np.str_]


def embed_pictures(clip: Clip, pictures: Iterable[Image.Image], count: int = 256) -> Vectors:
    """Embed pictures in batches: n pictures -> (n, r)."""
    batch, parts = [], []
    for picture in pictures:
        batch.append(clip.preprocess(picture))
        if len(batch) == count:
            parts.append(clip.image_embeddings(torch.stack(batch)))
            batch = []
    if batch:
        parts.append(clip.image_embeddings(torch.stack(batch)))
    return np.concatenate(parts)


def recall_at_1(embeddings: Vectors, groups: NDArray[np.int64], attacks: Names) -> dict[str, float]:
    """Share of the copies of each attack whose nearest gallery picture is their original."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    in_gallery = np.isin(attacks, ["original", "distractor"])
    gallery, gallery_groups = unit[in_gallery], groups[in_gallery]
    found = {}
    for attack in sorted(set(attacks[~in_gallery].tolist())):
        queries = attacks == attack
        nearest = (unit[queries] @ gallery.T).argmax(axis=1)
        found[attack] = float((gallery_groups[nearest] == groups[queries]).mean())
    return found


def compare(
    clip: Clip, embeddings: Vectors, groups: NDArray[np.int64], attacks: Names
) -> dict[str, object]:
    """Plain, mean-centred plain, and each band, on the same embeddings."""
    gallery = np.isin(attacks, ["original", "distractor"])
    spaces: dict[str, Vectors] = {"plain": embeddings}
    spaces["plain, mean-centred"] = embeddings - embeddings[gallery].mean(axis=0)
    for band in BANDS[1:]:
        spaces[f"isoclip {band}"] = clip.isoclip(band)(embeddings)
    found = {name: recall_at_1(space, groups, attacks) for name, space in spaces.items()}
    mean = {name: round(float(np.mean(list(each.values()))), 4) for name, each in found.items()}
    plain = {attack: round(value, 4) for attack, value in found["plain"].items()}
    return {"mean": mean, "plain, by attack": plain}


def measure_photographs(clip: Clip, folder: Path) -> dict[str, object]:
    """Recall on real photographs: the folder's groups.csv is the ground truth."""
    with (folder / "groups.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pictures = (Image.open(folder / row["file"]).convert("RGB") for row in rows)
    groups = np.array([int(row["group"]) for row in rows], dtype=np.int64)
    attacks = np.array([row["attack"] for row in rows])
    return compare(clip, embed_pictures(clip, pictures), groups, attacks)


def measure_scenes(clip: Clip, originals: int = 100, distractors: int = 1000) -> dict[str, object]:
    """Recall on rendered scenes whose seeds the training never used."""
    pictures, groups, attacks = [], [], []
    for row in range(originals + distractors):
        image = render_scene(FIRST_HELD_OUT + row, 160).image
        kinds = list(EDITS) if row < originals else []
        pictures += [image, *(edit_image(image, kind, row) for kind in kinds)]
        attacks += ["original" if row < originals else "distractor", *kinds]
        groups += [row] * (1 + len(kinds))
    embeddings = embed_pictures(clip, pictures)
    return compare(clip, embeddings, np.array(groups), np.array(attacks))


def agreement(
    embeddings: Vectors, attributes: Sequence[Mapping[str, str]], names: Sequence[str]
) -> dict[str, float]:
    """Share of the ten nearest others that agree with a picture or caption, for each attribute."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, 10, axis=1)[:, :10]
    found = {}
    for name in names:
        values = np.array([each[name] for each in attributes])
        found[name] = round(float((values[nearest] == values[:, None]).mean()), 4)
    return found


def measure_attributes(clip: Clip, count: int = 2000) -> dict[str, object]:
    """What counts as similar in each band, between unseen scenes and between their captions."""
    scenes = [render_scene(2 * FIRST_HELD_OUT + row, 96) for row in range(count)]
    attributes = [scene.attributes for scene in scenes]
    images = embed_pictures(clip, (scene.image for scene in scenes))
    texts = clip.text_embeddings([scene.caption for scene in scenes])
    seen = ("object", "colour", "texture", "background", "background_colour", "place")
    said = ("object", "colour")
    results: dict[str, dict[str, object]] = {"images": {}, "captions": {}}
    for band in BANDS:
        name = "plain" if band == WHOLE else f"isoclip {band}"
        results["images"][name] = agreement(clip.isoclip(band)(images), attributes, seen)
        results["captions"][name] = agreement(clip.isoclip_text(band)(texts), attributes, said)
    return dict(results)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=Path, default=Path("../shared/data/copies_clothing_cc0"))
    parser.add_argument("--checkpoint", default="isoclip-demo")
    parser.add_argument("--full", action="store_true", help="write where results are kept")
    options = parser.parse_args()
    clip = load_clip(options.checkpoint, device="cpu", precision="float32")
    results: dict[str, object] = {
        "question": __doc__.splitlines()[0],
        "checkpoint": options.checkpoint,
        "fingerprint": clip.fingerprint,
        "rank": clip.spectrum.rank,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "open_clip_torch", "numpy", "pillow")},
        },
        "rendered scenes": measure_scenes(clip),
        "ten nearest scenes that agree": measure_attributes(clip),
    }
    if options.copies.is_dir():
        results["photographs of clothes"] = measure_photographs(clip, options.copies)
    folder = RESULTS if options.full else RESULTS / "quick"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2) + "\n"
    (folder / "demo_checkpoint.json").write_text(text, encoding="utf-8")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
