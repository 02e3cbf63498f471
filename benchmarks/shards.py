"""What does Ray cost against the local loop, once for a run and then for every image?

    python benchmarks/shards.py            # 96 images, for a look
    python benchmarks/shards.py --full     # 512 images

One worker of Ray and the local engine embed the same files into stores of their own, with ViT-B-32
of random weights on one thread each, in seconds on the clock. What a run costs before its first
shard is there (a process that starts, imports torch and loads the model) is told apart from what
each image costs behind it. Ray itself is begun before, as it is on a cluster. Both write the same
shards.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # what Ray gives a worker; read when torch is imported

from harness import Record, in_turns, ratio
from harness.pictures import write_checkpoint, write_photographs

ARCHITECTURE = "ViT-B-32"
SHARD_ROWS = 16
SIZE = (640, 480)


def run(engine: Any, images: Any, folder: Path, into: list[tuple[float, float]]) -> None:
    """Fill a store that is not there yet; notes seconds to the first shard, and an image behind."""
    from fiftyone_isoclip.shards.run import fill_store
    from fiftyone_isoclip.shards.store import continue_store

    place = tempfile.mkdtemp(dir=folder)
    store = continue_store(place, engine.recipe, shard_rows=SHARD_ROWS)
    start = time.time()
    assert fill_store(store, images, engine).reasons == {}
    # Told by the files: receipts may reach the driver several at a time.
    moments = sorted(shard.stat().st_mtime for shard in (Path(place) / "shards").iterdir())
    behind = len(images) - SHARD_ROWS
    into.append((moments[0] - start, (moments[-1] - moments[0]) / behind))


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="The local engine and Ray, on the same images.")
    parser.add_argument("--full", action="store_true", help="512 images and not 96")
    full = parser.parse_args().full
    count, turns = (512, 3) if full else (96, 1)
    packages = ("ray", "pyarrow", "open_clip_torch", "torch")
    record = Record("shards", question="The cost of Ray against the local loop", packages=packages)
    with tempfile.TemporaryDirectory() as place:
        from fiftyone_isoclip.shards import Encoding, Images
        from fiftyone_isoclip.shards.local import LocalEngine
        from fiftyone_isoclip.shards.ray_engine import open_ray

        folder = Path(place)
        encoding = Encoding(write_checkpoint(folder, ARCHITECTURE), "cpu", "float32")
        paths = write_photographs(folder / "pictures", count, SIZE)
        images = Images.of(paths, paths)
        local = LocalEngine(encoding)
        run(local, images, folder, [])  # fills the caches
        found: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
        with open_ray(encoding, workers=1) as on_ray:
            ways = {"local": local, "ray": on_ray}
            timed = {
                name: partial(run, engine, images, folder, found[name])
                for name, engine in ways.items()
            }
            in_turns(timed, turns, time.perf_counter)
    record.setup(architecture=ARCHITECTURE, images=count, shard_rows=SHARD_ROWS, turns=turns)
    first = {name: [first for first, _ in pairs] for name, pairs in found.items()}
    behind = {name: [an_image for _, an_image in pairs] for name, pairs in found.items()}
    record.results["milliseconds_an_image"] = {
        name: round(1000 * median(seconds), 1) for name, seconds in behind.items()
    }
    record.results["seconds_to_the_first_shard"] = {
        name: round(median(seconds), 1) for name, seconds in first.items()
    }
    times = ratio(behind["ray"], behind["local"])
    record.row(
        "an image on one worker of Ray, against the local engine",
        target="<= 1.10 x the time",
        measured=f"{times} x",
        met=times <= 1.10,
    )
    record.write(full)


if __name__ == "__main__":
    main()
