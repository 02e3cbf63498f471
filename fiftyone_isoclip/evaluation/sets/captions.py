"""The caption sets of text-to-text retrieval: Flickr30k, COCO and nocaps.

In each, as in the research code of IsoCLIP and of Cross the Gap, the first caption of every image
is a query, all its others are the gallery, and captions of the same image are relevant. A query is
therefore never in the gallery. Cross the Gap also uses sets of long texts (IMDB, 20 newsgroups,
NanoBEIR), each shortened by a language model first; they are not read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_isoclip.evaluation.sets.retrieval_set import TextSet, first_there
from fiftyone_isoclip.evaluation.sets.text_files import damaged, read_json, read_lines

_KARPATHY = "of Andrej Karpathy's split (caption_datasets.zip)"
_FLICKR = ("Flickr30K", "flickr30k", "Flickr30k")
_COCO = ("COCO2014", "coco")
_COLUMNS = re.compile(r"(.*?\.jpg)(?:\s*\||#)\s*(\d+)\s*(?:\||\s)\s*(.*)")
"""Image, number and caption; one line of the published results.csv lacks its second bar."""


def open_flickr30k(root: Path) -> TextSet:
    """Read the validation split of Flickr30k from ``Flickr30K``.

    Captions are of ``results.csv`` or, with the same texts, ``results_20130124.token``; the split
    is ``karpathy_val.txt`` (names without .jpg) or that in ``dataset_flickr30k.json``.

    Raises:
        AbsentSetError: a file is not there.
        DamagedSetError: a file is not as it is published.
    """
    captions = first_there(
        root,
        [
            f"{home}/{name}"
            for home in _FLICKR
            for name in ("results.csv", "results_20130124.token")
        ],
        "captions of Flickr30k",
        "get Flickr30k, of the University of Illinois at Urbana-Champaign",
    )
    names = ("karpathy_val.txt", "dataset_flickr30k.json")
    places = [f"{home}/{name}" for home in _FLICKR for name in names]
    split = first_there(
        root, places, "split of Flickr30k", f"get dataset_flickr30k.json {_KARPATHY}"
    )
    wanted = _wanted_images(split)
    captions_of: dict[str, list[str]] = {}
    for line in read_lines(captions):
        columns = _COLUMNS.match(line)
        if columns is None and not line.startswith("image_name"):
            raise damaged(captions, f"{line[:60]!r} names no image, number and caption")
        if columns is not None and columns[1].removesuffix(".jpg") in wanted:
            captions_of.setdefault(columns[1], []).append(columns[3].strip())
    return _text_set("flickr30k", captions, list(captions_of.values()))


def _wanted_images(split: Path) -> set[str]:
    """The images of the validation split, without .jpg."""
    if split.suffix == ".txt":
        return {line.strip() for line in read_lines(split)}
    images = _dicts(split, read_json(split), "images")
    names = (str(image.get("filename")) for image in images if image.get("split") == "val")
    return {name.removesuffix(".jpg") for name in names}


def open_coco(root: Path) -> TextSet:
    """Read Karpathy's test split of COCO from ``COCO2014``: 5,000 images.

    The file is ``dataset_coco.json``, or ``dataset_coco_light.json`` as the research code calls it.

    Raises:
        AbsentSetError: the file is not there.
        DamagedSetError: it is not as it is published.
    """
    names = ("dataset_coco_light.json", "dataset_coco.json")
    places = [f"{home}/{name}" for home in _COCO for name in names]
    path = first_there(root, places, "captions of COCO", f"get dataset_coco.json {_KARPATHY}")
    images = _dicts(path, read_json(path), "images")
    captions = [
        [_text(path, sentence, "raw") for sentence in _dicts(path, image, "sentences")]
        for image in images
        if image.get("split") == "test"
    ]
    return _text_set("coco", path, captions)


def open_nocaps(root: Path) -> TextSet:
    """Read the validation set of nocaps from ``nocaps/nocaps_val_4500_captions.json``.

    Raises:
        AbsentSetError: the file is not there.
        DamagedSetError: it is not as it is published.
    """
    place = "nocaps/nocaps_val_4500_captions.json"
    path = first_there(root, [place], "captions of nocaps", "get them of the project nocaps")
    captions_of: dict[Any, list[str]] = {}
    for annotation in _dicts(path, read_json(path), "annotations"):
        image = annotation.get("image_id")
        captions_of.setdefault(image, []).append(_text(path, annotation, "caption"))
    return _text_set("nocaps", path, list(captions_of.values()))


def _text_set(name: str, path: Path, captions: Sequence[Sequence[str]]) -> TextSet:
    """Split the captions of each image into the first and the others."""
    if not any(len(texts) > 1 for texts in captions):
        raise damaged(path, "no image of the split has two captions")
    rest = [(text, image) for image, texts in enumerate(captions) for text in texts[1:]]
    first = [(texts[0], image) for image, texts in enumerate(captions) if texts]
    (queries, query_labels), (gallery, gallery_labels) = (
        zip(*side, strict=True) for side in (first, rest)
    )
    return TextSet(
        name,
        queries,
        np.array(query_labels, np.int64),
        gallery,
        np.array(gallery_labels, np.int64),
    )


def _dicts(path: Path, value: Any, key: str) -> list[Mapping[str, Any]]:
    held = value.get(key) if isinstance(value, dict) else None
    if not isinstance(held, list) or not all(isinstance(entry, dict) for entry in held):
        raise damaged(path, f"it holds no list called {key!r}")
    return held


def _text(path: Path, value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise damaged(path, f"a caption of it has no text called {key!r}")
    return text.strip()
