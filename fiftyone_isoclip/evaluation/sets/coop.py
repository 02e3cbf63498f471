"""The nine image sets that the paper uses with the splits of CoOp.

Queries are the images of the split ``test``, the gallery is the split ``train``, and ``val`` is
left out of both, as in the research code of IsoCLIP and of Cross the Gap, on which it builds. A
query is therefore never in the gallery, and nothing is left out of its results. The same two
splits are those of nearest class mean: the means are of ``train``.

The splits are CoOp's own files ``split_zhou_*.json``. Some were drawn at random by CoOp's authors,
so no other split of the same images (torchvision's, the original one) gives the paper's figures:
without the file the set counts as absent. It may lie in the folder of the set, in ``splits`` or
in the data folder itself, the images where CoOp, torchvision or the set's archive puts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_isoclip.evaluation.sets.retrieval_set import (
    RetrievalSet,
    first_there,
    image_paths,
    no_own_rows,
)
from fiftyone_isoclip.evaluation.sets.text_files import damaged, read_json

_SPLITS = "the split files are on the page DATASETS.md of the project KaiyangZhou/CoOp"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a set may lie.

    ``split`` is the name of CoOp's file, ``images`` the folders from which its paths start, first
    CoOp's own; ``inside`` is a folder that must be in it. ``source`` names who has the images.
    """

    split: str
    images: tuple[str, ...]
    source: str
    inside: str = ""


LAYOUTS: Mapping[str, Layout] = {
    "caltech": Layout(
        "split_zhou_Caltech101.json",
        ("caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories"),
        "Caltech 101, of the California Institute of Technology (CaltechDATA)",
    ),
    "cars": Layout(
        "split_zhou_StanfordCars.json",
        ("stanford_cars",),
        "Stanford Cars; its first home is gone, and the CoOp page says how to prepare it",
        inside="cars_train",
    ),
    "pets": Layout(
        "split_zhou_OxfordPets.json",
        ("oxford_pets/images", "oxford-iiit-pet/images"),
        "the Oxford-IIIT Pet data set, of the Visual Geometry Group in Oxford",
    ),
    "flowers": Layout(
        "split_zhou_OxfordFlowers.json",
        ("oxford_flowers/jpg", "flowers-102/jpg"),
        "the 102 Category Flower data set, of the Visual Geometry Group in Oxford",
    ),
    "dtd": Layout(
        "split_zhou_DescribableTextures.json",
        ("dtd/images", "dtd/dtd/images"),
        "the Describable Textures data set, of the Visual Geometry Group in Oxford",
    ),
    "eurosat": Layout(
        "split_zhou_EuroSAT.json",
        ("eurosat/2750", "EuroSAT/2750"),
        "EuroSAT (RGB), of the project phelber/EuroSAT",
    ),
    "food101": Layout(
        "split_zhou_Food101.json",
        ("food-101/images",),
        "Food-101, of the Computer Vision Lab of ETH Zurich",
    ),
    "sun397": Layout(
        "split_zhou_SUN397.json",
        ("sun397/SUN397", "SUN397"),
        "SUN397, of the SUN database in Princeton",
        inside="a",
    ),
    "ucf101": Layout(
        "split_zhou_UCF101.json",
        ("ucf101/UCF-101-midframes",),
        "UCF-101-midframes.zip, the middle frames of the videos, of the CoOp page",
    ),
}


def open_coop_set(root: Path, name: str) -> RetrievalSet:
    """Read one of ``LAYOUTS`` from a folder, or from ``CoOp`` in it, as the research code has it.

    Raises:
        AbsentSetError: its images or its split are not there.
        DamagedSetError: the split is not as CoOp publishes it, or images that it names are missing.
    """
    layout = LAYOUTS[name]
    homes = [f"{base}{place}" for base in ("", "CoOp/") for place in layout.images]
    marks = [f"{home}/{layout.inside}".rstrip("/") for home in homes]
    mark = first_there(root, marks, f"images of {name}", f"get {layout.source}")
    images = mark.parent if layout.inside else mark
    folders = [str(folder) for home in homes for folder in (Path(home), *Path(home).parents)]
    places = [f"{folder}/{layout.split}" for folder in dict.fromkeys([*folders, "splits"])]
    split = first_there(root, places, f"split of {name}", _SPLITS)
    return _read_split(name, split, images)


def _read_split(name: str, path: Path, images: Path) -> RetrievalSet:
    splits = read_json(path)
    (queries, query_labels), (gallery, gallery_labels) = (
        _entries(path, splits, split) for split in ("test", "train")
    )
    classes = _classes(path, splits)
    position = {label: place for place, label in enumerate(classes)}
    return RetrievalSet(
        name,
        image_paths(images, queries),
        np.array([position[label] for label in query_labels], np.int64),
        image_paths(images, gallery),
        np.array([position[label] for label in gallery_labels], np.int64),
        no_own_rows(len(queries)),
        tuple(classes.values()),
        train_rows=np.arange(len(gallery)),
        test_rows=np.arange(len(queries)),
    )


def _entries(path: Path, splits: Any, split: str) -> tuple[list[str], list[int]]:
    """The names and labels of a split: CoOp writes [path, label, class name] for each image."""
    entries = splits.get(split) if isinstance(splits, dict) else None
    if not isinstance(entries, list) or not entries:
        raise damaged(path, f"it holds no split called {split!r}")
    for entry in entries:
        if not isinstance(entry, list) or [*map(type, entry)] != [str, int, str]:
            raise damaged(path, f"{entry!r} is not an image's path, label and class")
    names, labels, _ = zip(*entries, strict=True)
    return list(names), list(labels)


def _classes(path: Path, splits: dict[str, Any]) -> dict[int, str]:
    """Label -> name of the class, in the order of the labels."""
    named = {(label, name) for split in ("train", "test") for _, label, name in splits[split]}
    classes = dict(sorted(named))
    if len(classes) < len(named):
        raise damaged(path, "one label stands for two classes")
    return classes
