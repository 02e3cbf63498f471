"""How fast are stored embeddings read, and how soon does another band answer a query?

    python benchmarks/stored_vectors.py            # 20,000 samples, for a look
    python benchmarks/stored_vectors.py --full     # 100,000 samples, what the README states

Samples with embeddings of 512 numbers in a MongoDB of this benchmark's own. Reading through the
package takes turns with FiftyOne's ``dataset.values(field)``; the files are touched before each
turn, so that every checksum is checked again. The band is changed after a query has been answered
under another one. The image files do not exist: none can be read. Seconds on the clock, because
the database works in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Record, clip_like, in_turns, ratio
from harness.database import own_database

FIELD, DIM, K = "clip_embedding", 512, 25
QUICK, FULL = 20_000, 100_000
TURNS, BANDS = 3, ("120/40", "90/60", "60/20")
ADDED = 1_000
# The heads of ViT-B-32, on towers of one layer: nothing is embedded here.
ARCHITECTURE = "heads-of-b-32"
CONFIG = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 768, "patch_size": 32},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 512,
        "heads": 8,
        "layers": 1,
    },
}


def clock(action: Callable[[], Any]) -> float:
    """How long it takes, in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def write_checkpoint(folder: Path) -> str:
    """Write random weights; -> the name by which the checkpoint is loaded."""
    import open_clip
    from safetensors.torch import save_file

    (folder / f"{ARCHITECTURE}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{ARCHITECTURE}.json")
    model = open_clip.create_model(ARCHITECTURE, load_weights=False)
    save_file(model.state_dict(), folder / "weights.safetensors")
    return f"{ARCHITECTURE}/{folder / 'weights.safetensors'}"


def filled_dataset(checkpoint: str, n: int) -> Any:
    """A dataset of n samples as `embed` leaves them, but for the files."""
    import fiftyone as fo
    from bson import Binary
    from fiftyone.core.utils import serialize_numpy_array

    from fiftyone_isoclip.dataset.fields import Origin, declare_field, write_origin
    from fiftyone_isoclip.encoder import load_clip

    clip = load_clip(checkpoint)
    dataset = fo.Dataset("stored")
    declare_field(dataset, FIELD, fo.VectorField)
    for beside in ("source", "error"):
        declare_field(dataset, f"{FIELD}_{beside}", fo.StringField)
    write_origin(dataset, FIELD, Origin.of(clip))
    dataset.add_sample(fo.Sample(filepath="picture.jpg"))
    samples = dataset._sample_collection
    template = samples.find_one()
    samples.delete_many({})
    del template["_id"]
    vectors = clip_like(n, DIM)
    for start in range(0, n, 5000):
        samples.insert_many(
            template
            | {
                "filepath": f"/nowhere/{row:08}.jpg",
                FIELD: Binary(serialize_numpy_array(vectors[row])),
                f"{FIELD}_source": f"{clip.fingerprint[:16]} {100_000 + row} {10**18 + row}",
            }
            for row in range(start, min(start + 5000, n))
        )
    return dataset


def reading(dataset: Any) -> dict[str, list[float]]:
    """Read as FiftyOne does and as this package does; all of them agree."""
    from fiftyone_isoclip.dataset.sidestore import store_folder
    from fiftyone_isoclip.dataset.vectors import read_database, read_vectors

    def ours() -> Any:
        found = read_vectors(dataset, FIELD, DIM)
        found.vectors.sum()  # every number is looked at: a map from disk has cost nothing yet
        return found

    def unchecked() -> None:
        for path in store_folder(dataset, FIELD).glob("*.bin"):
            path.touch()

    truth = read_database(dataset, FIELD, DIM)
    assert ours().ids == truth.ids and np.array_equal(ours().vectors, truth.vectors)
    contenders = {
        "values": lambda: dataset.values(FIELD),
        "touching": unchecked,
        "ours": ours,
        "ours_again": ours,
        "our_decoding_of_the_database": lambda: read_database(dataset, FIELD, DIM),
    }
    seconds = in_turns(contenders, TURNS, time.perf_counter)
    del seconds["touching"]
    return seconds


def changing_band(dataset: Any) -> dict[str, list[float]]:
    """Ask for the neighbours of a sample under one band after the other, and check them."""
    from fiftyone_isoclip.dataset import find_similar
    from fiftyone_isoclip.dataset.spaces import open_space

    query = dataset.skip(len(dataset) // 2).first().id
    seconds: dict[str, list[float]] = {
        "first_band_and_loading": [clock(lambda: find_similar(dataset, query, K, band="150/50"))],
        "another_band": [],
    }
    for band in BANDS:
        started = time.perf_counter()
        found = find_similar(dataset, query, K, band=band)
        seconds["another_band"].append(time.perf_counter() - started)
        space = open_space(dataset, FIELD, band)
        row = space.stored.row_of[query]
        scores = space.vectors @ space.vectors[row]
        scores[row] = -np.inf
        np.testing.assert_allclose(found.similarities, np.sort(scores)[::-1][:K], atol=1e-5)
    return seconds


def keeping(dataset: Any) -> dict[str, list[float]]:
    """Copy all vectors into files, find nothing to do, and add to them."""
    from fiftyone_isoclip.dataset.copies import refresh_copy
    from fiftyone_isoclip.dataset.fields import read_origin
    from fiftyone_isoclip.dataset.sidestore import append_vectors

    copying = clock(lambda: refresh_copy(dataset, FIELD))
    nothing = clock(lambda: refresh_copy(dataset, FIELD))
    fingerprint = read_origin(dataset, FIELD).fingerprint
    ids, sources = [f"{row:024}" for row in range(ADDED)], ["no sample has it"] * ADDED
    vectors = clip_like(ADDED, DIM, seed=1)
    adding = clock(lambda: append_vectors(dataset, FIELD, fingerprint, vectors, ids, sources))
    refresh_copy(dataset, FIELD)  # takes them away again
    return {"copying_all": [copying], "refreshing_for_nothing": [nothing], "adding": [adding]}


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="Read stored embeddings, ours and FiftyOne's.")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} samples and not {QUICK:,}")
    full = parser.parse_args().full
    n = FULL if full else QUICK
    with own_database() as folder:
        dataset = filled_dataset(write_checkpoint(folder), n)
        seconds = keeping(dataset) | reading(dataset) | changing_band(dataset)
    write(seconds, n, full)


def write(seconds: dict[str, list[float]], n: int, full: bool) -> None:
    """State ratios and seconds against their targets."""
    record = Record(
        "stored_vectors",
        question="How fast are stored embeddings read, and how soon does another band answer?",
        packages=("fiftyone", "pymongo", "numpy"),
    )
    record.setup(n=n, dim=DIM, turns=TURNS, clock="wall", k=K, added=ADDED, bands=list(BANDS))
    record.results["seconds"] = {
        name: [round(each, 3) for each in turns] for name, turns in seconds.items()
    }
    faster, again = (ratio(seconds["values"], seconds[name]) for name in ("ours", "ours_again"))
    record.results["times_faster_than_values"] = {"checked": faster, "checked_before": again}
    record.row(
        f"reading {n:,} stored embeddings of {DIM} numbers, every checksum checked",
        target=">= 5 x dataset.values(field)",
        measured=f"{faster} x ({again} x from the second time on)",
        met=faster >= 5,
    )
    band = median(seconds["another_band"])
    record.row(
        f"changing the band on {n:,} stored embeddings: new neighbours of one image, no image read",
        target="< 2 s",
        measured=f"{band:.2f} s",
        met=band < 2,
    )
    record.write(full)


if __name__ == "__main__":
    main()
