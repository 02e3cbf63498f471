"""What does Ray cost against the local loop, once for a run and then for every image?

    python benchmarks/shards.py            # 32 and 96 images, for a look
    python benchmarks/shards.py --full     # 128 and 512 images

One worker of Ray and the local engine embed the same files into stores of their own, with ViT-B-32
of random weights on one thread each, in seconds on the clock. Two sizes tell the cost of an image
from what a run costs before its first one: a process that starts, imports torch and loads the
model. Ray itself is begun before, as it is on a cluster. Both write the same shards.
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

from harness import Record, in_turns
from harness.pictures import write_checkpoint, write_photographs

ARCHITECTURE = "ViT-B-32"
SHARD_ROWS = 16
SIZE = (640, 480)


def run(engine: Any, images: Any, folder: Path) -> None:
    """Fill a store that is not there yet, and see that all of it is there."""
    from fiftyone_isoclip.shards.run import fill_store
    from fiftyone_isoclip.shards.store import continue_store

    place = tempfile.mkdtemp(dir=folder)
    store = continue_store(place, engine.recipe, shard_rows=SHARD_ROWS)
    assert fill_store(store, images, engine).reasons == {}


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="The local engine and Ray, on the same images.")
    parser.add_argument("--full", action="store_true", help="512 images and not 96")
    full = parser.parse_args().full
    (few, many), turns = ((128, 512), 3) if full else ((32, 96), 1)
    packages = ("ray", "pyarrow", "open_clip_torch", "torch")
    record = Record("shards", question="The cost of Ray against the local loop", packages=packages)
    with tempfile.TemporaryDirectory() as place:
        from fiftyone_isoclip.shards import Encoding, Images
        from fiftyone_isoclip.shards.local import LocalEngine
        from fiftyone_isoclip.shards.ray_engine import open_ray

        folder = Path(place)
        encoding = Encoding(write_checkpoint(folder, ARCHITECTURE), "cpu", "float32")
        paths = write_photographs(folder / "pictures", many, SIZE)
        sizes = {count: Images.of(paths[:count], paths[:count]) for count in (few, many)}
        local = LocalEngine(encoding)
        run(local, sizes[few], folder)  # fills the caches
        with open_ray(encoding, workers=1) as on_ray:
            ways = {"local": local, "ray": on_ray}
            timed = {
                f"{name} {count}": partial(run, engine, images, folder)
                for count, images in sizes.items()
                for name, engine in ways.items()
            }
            seconds = in_turns(timed, turns, time.perf_counter)
    record.setup(architecture=ARCHITECTURE, images=[few, many], shard_rows=SHARD_ROWS, turns=turns)
    an_image = {
        name: median(
            (long - short) / (many - few)
            for short, long in zip(seconds[f"{name} {few}"], seconds[f"{name} {many}"], strict=True)
        )
        for name in ways
    }
    before = {
        name: median(seconds[f"{name} {few}"]) - few * each for name, each in an_image.items()
    }
    record.results["milliseconds_an_image"] = {n: round(1000 * s, 1) for n, s in an_image.items()}
    record.results["seconds_before_the_first_image"] = {n: round(s, 1) for n, s in before.items()}
    times = round(an_image["ray"] / an_image["local"], 2)
    record.row(
        "an image on one worker of Ray, against the local engine",
        target="<= 1.10 x the time",
        measured=f"{times} x",
        met=times <= 1.10,
    )
    record.write(full)


if __name__ == "__main__":
    main()
