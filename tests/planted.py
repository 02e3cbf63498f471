"""A small dataset with planted copies, and what brute force says of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from fiftyone_isoclip.dataset import embed
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.files.copies import content_hash
from tests.pictures import draw_many, recompress

FIELD = "clip_embedding"


def plant_copies(dataset, fill, folder, checkpoint):
    """Embed 8 pictures: 0 with 2 near copies and 1 exact, 1 with 1 exact, 2 and 3 with 1 near."""
    base = draw_many(folder, 8)
    near = [recompress(base[0], folder / f"near0-{q}.jpg", q) for q in (95, 70)]
    near += [recompress(base[n], folder / f"near{n}.jpg", 60) for n in (2, 3)]
    exact = [str(folder / f"copy of {n}.png") for n in (0, 1)]
    for source, copy in zip(base, exact, strict=False):
        shutil.copyfile(source, copy)
    ids = fill(base + near + exact)
    embed(dataset, checkpoint, progress=False)
    return dict(zip([Path(path).name for path in base + near + exact], ids, strict=True))


def pair_cosines(dataset, checkpoint, band=None):
    """The cosine of each two samples whose files differ in bytes, one sample for each content."""
    first = {}
    for id_, path in zip(*dataset.values(["id", "filepath"]), strict=True):
        first.setdefault(content_hash(path), id_)
    ids = list(first.values())
    vectors = dict(zip(*dataset.values(["id", FIELD]), strict=True))
    rows = load_clip(checkpoint).isoclip(band)(np.stack([vectors[id_] for id_ in ids]))
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    table = rows @ rows.T / np.outer(lengths, lengths)
    return {
        frozenset((one, other)): float(table[left, right])
        for left, one in enumerate(ids)
        for right, other in enumerate(ids[:left])
    }


def sizes(report):
    """How many groups a report has, and how many samples in them."""
    return len(report.groups), sum(1 + len(group.copies) for group in report.groups)


def members(report):
    """The groups of a report as sets of ids."""
    return {frozenset([g.keeper, *(copy.id for copy in g.copies)]) for g in report.groups}


def hashes(folder):
    """The bytes of every file under a folder, by name."""
    return {path.name: content_hash(path) for path in sorted(Path(folder).iterdir())}
