"""Small copies of the paper's sets: real files in the layouts in which the sets are unpacked."""

from __future__ import annotations

import json
import pickle
import zlib
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from tests.pictures import draw

CLASSES = ("cat", "dog", "fox")
SPLITS = {"train": 3, "val": 1, "test": 2}
"""Images of each class."""

COOP = {
    "caltech": ("caltech-101/101_ObjectCategories", "split_zhou_Caltech101.json"),
    "cars": ("stanford_cars", "split_zhou_StanfordCars.json"),
    "pets": ("oxford_pets/images", "split_zhou_OxfordPets.json"),
    "flowers": ("oxford_flowers/jpg", "split_zhou_OxfordFlowers.json"),
    "dtd": ("dtd/images", "split_zhou_DescribableTextures.json"),
    "eurosat": ("eurosat/2750", "split_zhou_EuroSAT.json"),
    "food101": ("food-101/images", "split_zhou_Food101.json"),
    "sun397": ("sun397/SUN397", "split_zhou_SUN397.json"),
    "ucf101": ("ucf101/UCF-101-midframes", "split_zhou_UCF101.json"),
}
TORCHVISION = {
    "caltech": "caltech101/101_ObjectCategories",
    "cars": "stanford_cars",
    "pets": "oxford-iiit-pet/images",
    "flowers": "flowers-102/jpg",
    "dtd": "dtd/dtd/images",
    "eurosat": "eurosat/2750",
    "food101": "food-101/images",
    "sun397": "SUN397",
}
NAMES = {"cars": "cars_{split}/{n:05}.jpg", "sun397": "{letter}/{kind}/sun_{n}.jpg"}
"""Of images below a set's folder, where it is not {kind}/{n}.jpg."""


@dataclass
class Made:
    """The files of a set by split, and the class of each."""

    paths: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    class_of: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, split: str, kind: str) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, seed=zlib.crc32(f"{path.parent.parent.name}/{path.name}".encode()), side=32)
        self.paths[split].append(str(path))
        self.class_of[str(path)] = kind
        return kind


def _images():
    """Split, class and number of each image of a set."""
    numbers = iter(range(100))
    return [
        (split, kind, next(numbers))
        for split, count in SPLITS.items()
        for kind in CLASSES
        for _ in range(count)
    ]


def make_coop_set(root: Path, name: str, images: str = "", split_folder: str = "") -> Made:
    """One of the nine sets with CoOp's splits, in CoOp's layout unless another is given."""
    made, (home, file) = Made(), COOP[name]
    folder = root / (images or home)
    splits = {split: [] for split in SPLITS}
    for split, kind, n in _images():
        pattern = NAMES.get(name, "{kind}/{n}.jpg")
        side = "test" if split == "test" else "train"
        relative = pattern.format(split=side, kind=kind, letter="a", n=n)
        made.add(folder / relative, split, kind)
        splits[split].append([relative, CLASSES.index(kind), kind])
    place = root / (split_folder or home.partition("/")[0])
    place.mkdir(parents=True, exist_ok=True)
    (place / file).write_text(json.dumps(splits))
    return made


def make_aircraft(root: Path, home: str = "fgvc_aircraft") -> Made:
    """FGVC-Aircraft; its variants have names of several words."""
    made, folder = Made(), root / home
    lines = {split: [] for split in SPLITS}
    for split, kind, n in _images():
        made.add(folder / "images" / f"{n:07}.jpg", split, f"{kind} 700 ER")
        lines[split].append(f"{n:07} {kind} 700 ER\n")
    (folder / "variants.txt").write_text("".join(f"{kind} 700 ER\n" for kind in CLASSES))
    for split, text in lines.items():
        (folder / f"images_variant_{split}.txt").write_text("".join(text))
    return made


def make_cub(root: Path, home: str = "CUB_200_2011") -> Made:
    """CUB-200-2011: an image has a number, and three files say what it is; it has no ``val``."""
    made, folder = Made(), root / home
    files = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    for number, (split, kind, n) in enumerate(_images(), 1):
        label = CLASSES.index(kind) + 1
        relative = f"{label:03}.{kind}/{kind}_{n}.jpg"
        made.add(folder / "images" / relative, "test" if split == "test" else "train", kind)
        files["images"].append(f"{number} {relative}\n")
        files["image_class_labels"].append(f"{number} {label}\n")
        files["train_test_split"].append(f"{number} {int(split != 'test')}\n")
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("".join(lines))
    names = [f"{label} {label:03}.{kind}\n" for label, kind in enumerate(CLASSES, 1)]
    (folder / "classes.txt").write_text("".join(names))
    return made


def make_landmarks(root: Path, name: str, *, arrays: bool = True, protocol: int = 2) -> Made:
    """ROxford or RParis: queries are ``test`` and the gallery is ``train``.

    Of each landmark one image is easy, one is hard and one is junk.
    """
    made, folder = Made(), root / {"roxford": "roxford5k", "rparis": "rparis6k"}[name]
    truth = {"imlist": [], "qimlist": [], "gnd": []}
    for split, kind, n in _images():
        if split != "val":
            made.add(folder / "jpg" / f"{kind}_{n:06}.jpg", split, kind)
            truth["qimlist" if split == "test" else "imlist"].append(f"{kind}_{n:06}")
    for query in truth["qimlist"]:
        kind = query.partition("_")[0]
        own = [row for row, image in enumerate(truth["imlist"]) if image.startswith(kind)]
        judged = dict(zip(("easy", "hard", "junk"), ([row] for row in own), strict=True))
        if query == truth["qimlist"][0]:
            judged["hard"] = []
        if arrays:
            judged = {key: np.array(rows, np.int64) for key, rows in judged.items()}
        truth["gnd"].append({"bbx": [1.5, 2.0, 30.0, 31.25], **judged})
    path = folder / f"gnd_{folder.name}.pkl"
    path.write_bytes(pickle.dumps(truth, protocol=protocol))
    return made


_COLOURS, _SHAPES = ("red", "blue", "green", "brown", "pink"), ("circle", "square", "star", "fish")
_WHERE = ("on the left", "at top", "in the centre")
CAPTIONS = {
    f"{number}.jpg": [f"a {colour} {shape} {where} ." for where in _WHERE]
    for number, (colour, shape) in enumerate(product(_COLOURS, _SHAPES), 100)
}
"""In words that the demo checkpoint knows."""
WANTED = [*CAPTIONS][1::2]
"""The images of the split that is searched."""


def make_flickr30k(root: Path, *, csv: bool = True, karpathy: bool = True) -> None:
    """Flickr30k with the line of results.csv that lacks its second bar."""
    folder = root / "Flickr30K"
    folder.mkdir(parents=True)
    if csv:
        lines = ["image_name| comment_number| comment"]
        lines += [
            f"{image}| {n}{'  ' if (image, n) == (WANTED[1], 2) else '|'} {text}"
            for image, texts in CAPTIONS.items()
            for n, text in enumerate(texts)
        ]
        (folder / "results.csv").write_text("\n".join(lines))
    else:
        lines = [
            f"{image}#{n}\t{text}"
            for image, texts in CAPTIONS.items()
            for n, text in enumerate(texts)
        ]
        (folder / "results_20130124.token").write_text("\n".join(lines))
    if karpathy:
        names = [image.removesuffix(".jpg") for image in WANTED]
        (folder / "karpathy_val.txt").write_text("\n".join(names))
    else:
        images = [
            {"filename": image, "split": "val" if image in WANTED else "train"}
            for image in CAPTIONS
        ]
        (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))


def make_coco(root: Path, file: str = "dataset_coco.json") -> None:
    """Karpathy's file of COCO."""
    folder = root / "COCO2014"
    folder.mkdir(parents=True)
    images = [
        {
            "imgid": number,
            "split": "test" if image in WANTED else "restval",
            "sentences": [{"raw": text, "sentid": 10 * number + n} for n, text in enumerate(texts)],
        }
        for number, (image, texts) in enumerate(CAPTIONS.items())
    ]
    (folder / file).write_text(json.dumps({"dataset": "coco", "images": images}))


def make_nocaps(root: Path) -> None:
    """The captions of nocaps, images in turn."""
    folder = root / "nocaps"
    folder.mkdir(parents=True)
    annotations = [
        {"image_id": image, "id": 10 * image + n, "caption": CAPTIONS[WANTED[image]][n]}
        for n in range(3)
        for image in range(len(WANTED))
    ]
    path = folder / "nocaps_val_4500_captions.json"
    path.write_text(json.dumps({"annotations": annotations}))


def make_all_sets(root: Path) -> dict[str, Made]:
    """Every set, each in the layout that comes first."""
    for make in (make_flickr30k, make_coco, make_nocaps):
        make(root)
    return {
        **{name: make_coop_set(root, name) for name in COOP},
        **{name: make_landmarks(root, name) for name in ("roxford", "rparis")},
        "aircraft": make_aircraft(root),
        "cub": make_cub(root),
    }
