"""The image sets that bring their own splits: FGVC-Aircraft and CUB-200-2011."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fiftyone_isoclip.evaluation.sets.retrieval_set import (
    RetrievalSet,
    first_there,
    image_paths,
    no_own_rows,
)
from fiftyone_isoclip.evaluation.sets.text_files import damaged, read_columns, read_lines

_AIRCRAFT_SOURCE = "get FGVC-Aircraft (2013b), of the Visual Geometry Group in Oxford"
_CUB_SOURCE = "get CUB-200-2011, of the California Institute of Technology (CaltechDATA)"


def open_aircraft(root: Path) -> RetrievalSet:
    """Read FGVC-Aircraft from ``fgvc_aircraft`` or ``fgvc-aircraft-2013b/data``.

    As in the research code, queries are ``images_variant_test.txt`` and the gallery is
    ``images_variant_train.txt``, without ``val``; the label is the variant. No query is in the
    gallery. The means of nearest class mean are of the gallery.

    Raises:
        AbsentSetError: the folder is not there.
        DamagedSetError: a file of it is missing or not as it is published.
    """
    place = "variants.txt"
    homes = ("fgvc_aircraft", "CoOp/fgvc_aircraft", "fgvc-aircraft-2013b/data")
    places = [f"{home}/{place}" for home in homes]
    folder = first_there(root, places, "lists of aircraft", _AIRCRAFT_SOURCE).parent
    classes = tuple(line.strip() for line in read_lines(folder / place))
    position = {name: label for label, name in enumerate(classes)}
    sides = []
    for split in ("test", "train"):
        path = folder / f"images_variant_{split}.txt"
        rows = list(read_columns(path, 2))
        unknown = [variant for _, variant in rows if variant not in position]
        if unknown:
            raise damaged(path, f"{unknown[0]!r} is no variant of {folder / place}")
        labels = np.array([position[variant] for _, variant in rows], np.int64)
        sides.append((image_paths(folder / "images", [f"{name}.jpg" for name, _ in rows]), labels))
    (queries, query_labels), (gallery, gallery_labels) = sides
    return RetrievalSet(
        "aircraft",
        queries,
        query_labels,
        gallery,
        gallery_labels,
        no_own_rows(len(queries)),
        classes,
        train_rows=np.arange(len(gallery)),
        test_rows=np.arange(len(queries)),
    )


def open_cub(root: Path) -> RetrievalSet:
    """Read CUB-200-2011 from ``CUB_200_2011``.

    As in the research code, all 11,788 images are both the queries and the gallery, and each query
    is left out of its own results. For nearest class mean, which the paper does not report on this
    set, ``train_test_split.txt`` says which images make the means and which are classified.

    Raises:
        AbsentSetError: the folder is not there.
        DamagedSetError: a file of it is missing or not as it is published.
    """
    places = [f"{home}/images.txt" for home in ("CUB_200_2011", "CUB_200_2011/CUB_200_2011")]
    folder = first_there(root, places, "list of the images of CUB", _CUB_SOURCE).parent
    names = dict(read_columns(folder / "images.txt", 2))
    labelled = _values(folder / "image_class_labels.txt", names)
    splits = _values(folder / "train_test_split.txt", names)
    classes = dict(read_columns(folder / "classes.txt", 2))
    position = {number: label for label, number in enumerate(classes)}
    if unknown := set(labelled) - set(position):
        raise damaged(folder / "classes.txt", f"it has no class {min(unknown)}")
    labels = np.array([position[number] for number in labelled], np.int64)
    paths = image_paths(folder / "images", names.values())
    rows = np.arange(len(paths))
    is_train = np.array(splits) == "1"
    return RetrievalSet(
        "cub",
        paths,
        labels,
        paths,
        labels,
        own_rows=rows,
        classes=tuple(classes.values()),
        train_rows=rows[is_train],
        test_rows=rows[~is_train],
    )


def _values(path: Path, names: dict[str, str]) -> list[str]:
    """What a file gives each image, in the order of the images."""
    values = dict(read_columns(path, 2))
    if without := [image for image in names if image not in values]:
        raise damaged(path, f"it has nothing on image {without[0]}")
    return [values[image] for image in names]
