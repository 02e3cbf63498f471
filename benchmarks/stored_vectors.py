"""How fast are stored embeddings read, and how soon does another band answer a query?

    python benchmarks/stored_vectors.py            # 20,000 samples, for a look
    python benchmarks/stored_vectors.py --full     # 100,000 samples, what the README states

Samples with embeddings of 512 numbers in a MongoDB of this benchmark's own. Reading through the
package is compared with FiftyOne's ``dataset.values(field)``; each reading is a process of its own
and they take turns, so that ours checks every checksum each time. The band is changed in a process
that has answered a query under another one. The image files do not exist: none can be read.
Seconds on the clock, because the database works in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Record, clip_like, ratio

ROOT = Path(__file__).parents[1]
FIELD, DIM, K = "clip_embedding", 512, 25
QUICK, FULL = 20_000, 100_000
TURNS, BANDS = 3, ("150/50", "120/40", "90/60", "60/20")
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


def clock(action: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, in seconds, and what it gives."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def open_dataset(folder: Path) -> Any:
    """The dataset, with the checkpoint that its field names."""
    import fiftyone as fo
    import open_clip

    (folder / f"{ARCHITECTURE}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{ARCHITECTURE}.json")
    return fo.load_dataset("stored") if fo.dataset_exists("stored") else fo.Dataset("stored")


def fill(folder: Path, n: int) -> dict[str, float]:
    """Insert n samples as `embed` leaves them, and copy their vectors into files."""
    import fiftyone as fo
    import open_clip
    from bson import Binary
    from fiftyone.core.utils import serialize_numpy_array
    from safetensors.torch import save_file

    from fiftyone_isoclip.dataset.copies import refresh_copy
    from fiftyone_isoclip.dataset.fields import Origin, declare_field, write_origin
    from fiftyone_isoclip.encoder import load_clip

    dataset = open_dataset(folder)
    dataset.persistent = True
    model = open_clip.create_model(ARCHITECTURE, load_weights=False)
    save_file(model.state_dict(), folder / "weights.safetensors")
    clip = load_clip(f"{ARCHITECTURE}/{folder / 'weights.safetensors'}")
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
    copied, _ = clock(lambda: refresh_copy(dataset, FIELD))
    nothing, _ = clock(lambda: refresh_copy(dataset, FIELD))
    return {"copying_them_all": copied, "refreshing_a_whole_copy": nothing}


def read_values(folder: Path, n: int) -> dict[str, float]:
    """Read as FiftyOne does."""
    dataset = open_dataset(folder)
    seconds, vectors = clock(lambda: dataset.values(FIELD))
    assert len(vectors) == n
    return {"values": seconds}


def read_ours(folder: Path, n: int) -> dict[str, float]:
    """Read through the package, twice, and from the database alone; the three agree."""
    from fiftyone_isoclip.dataset.vectors import read_database, read_vectors

    dataset = open_dataset(folder)
    # Every number is looked at: a map from disk has cost nothing yet.
    first, found = clock(lambda: (read := read_vectors(dataset, FIELD, DIM), read.vectors.sum()))
    again, _ = clock(lambda: read_vectors(dataset, FIELD, DIM).vectors.sum())
    slow, truth = clock(lambda: read_database(dataset, FIELD, DIM))
    assert found[0].ids == truth.ids and np.array_equal(found[0].vectors, truth.vectors)
    return {"ours": first, "ours_again": again, "our_decoding_of_the_database": slow}


def change_band(folder: Path, n: int) -> dict[str, float]:
    """Ask for the neighbours of a sample under one band after the other."""
    from fiftyone_isoclip.dataset import find_similar
    from fiftyone_isoclip.dataset.spaces import open_space

    dataset = open_dataset(folder)
    query = dataset.skip(n // 2).first().id
    seconds = []
    for band in BANDS:
        took, found = clock(lambda band=band: find_similar(dataset, query, K, band=band))
        space = open_space(dataset, FIELD, band)
        row = space.stored.row_of[query]
        scores = space.vectors @ space.vectors[row]
        scores[row] = -np.inf
        expected = np.sort(scores)[::-1][:K]
        np.testing.assert_allclose(found.similarities, expected, atol=1e-5)
        seconds.append(took)
    return {"first_band_and_loading": seconds[0], "another_band": median(seconds[1:])}


def add_more(folder: Path, n: int) -> dict[str, float]:
    """Add vectors to the files of all of them."""
    from fiftyone_isoclip.dataset.fields import read_origin
    from fiftyone_isoclip.dataset.sidestore import append_vectors

    dataset = open_dataset(folder)
    fingerprint = read_origin(dataset, FIELD).fingerprint
    ids, sources = [f"{row:024}" for row in range(ADDED)], ["a source as long as others"] * ADDED
    vectors = clip_like(ADDED, DIM, seed=1)
    seconds, _ = clock(lambda: append_vectors(dataset, FIELD, fingerprint, vectors, ids, sources))
    return {"adding_to_the_files": seconds}


ROLES = {each.__name__: each for each in (fill, read_values, read_ours, change_band, add_more)}


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="Read stored embeddings, ours and FiftyOne's.")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} samples and not {QUICK:,}")
    full = parser.parse_args().full
    n = FULL if full else QUICK
    sys.path.insert(0, str(ROOT))
    from fiftyone_isoclip.installation import bundled_mongod
    from tests.mongod import Mongod

    with tempfile.TemporaryDirectory(prefix="isoclip-bench-") as name:
        folder = Path(name)
        mongod = Mongod(bundled_mongod(), folder / "database")
        mongod.start()
        try:
            measured = measure(folder, n, mongod.uri)
        finally:
            mongod.remove()
    write(measured, n, full)


def measure(folder: Path, n: int, uri: str) -> dict[str, list[float]]:
    """Run each role in a process of its own; -> the seconds of what it did, turn by turn."""
    world = {
        "FIFTYONE_DATABASE_URI": uri,
        "FIFTYONE_DATABASE_NAME": "benchmark",
        "FIFTYONE_ISOCLIP_DIR": str(folder / "isoclip"),
        "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_SHOW_PROGRESS_BARS": "0",
    }
    turns = [fill, *[read_values, read_ours] * TURNS, change_band, add_more]
    measured: dict[str, list[float]] = {}
    for role in turns:
        command = [sys.executable, __file__, role.__name__, str(folder), str(n)]
        done = subprocess.run(command, env=os.environ | world, stdout=subprocess.PIPE, check=True)
        for name, seconds in json.loads(done.stdout.splitlines()[-1]).items():
            measured.setdefault(name, []).append(seconds)
    return measured


def write(measured: dict[str, list[float]], n: int, full: bool) -> None:
    """State ratios and seconds against their targets."""
    record = Record(
        "stored_vectors",
        question="How fast are stored embeddings read, and how soon does another band answer?",
        packages=("fiftyone", "pymongo", "numpy"),
    )
    record.setup(n=n, dim=DIM, turns=TURNS, clock="wall", added=ADDED, bands=list(BANDS))
    record.results["seconds"] = {
        name: [round(each, 3) for each in seconds] for name, seconds in measured.items()
    }
    faster = ratio(measured["values"], measured["ours"])
    again = ratio(measured["values"], measured["ours_again"])
    record.results["times_faster"] = {"first_in_a_process": faster, "again": again}
    record.row(
        f"reading {n:,} stored embeddings of {DIM} numbers, checksums included",
        target=">= 5 x dataset.values(field)",
        measured=f"{faster} x ({again} x from the second time on)",
        met=faster >= 5,
    )
    band = measured["another_band"][0]
    record.row(
        f"changing the band on {n:,} stored embeddings: new neighbours of one image, none read",
        target="< 2 s",
        measured=f"{band:.2f} s",
        met=band < 2,
    )
    record.write(full)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ROLES:
        print(json.dumps(ROLES[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
