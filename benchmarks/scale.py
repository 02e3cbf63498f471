"""What does an image cost on its way through a store: operations, bytes, memory of the driver?

    python benchmarks/scale.py           # 20,000 images, for a look
    python benchmarks/scale.py --full    # 200,000 images

What docs/scale.md multiplies by millions. Floating-point operations of the image towers are
counted, not timed, by PyTorch's own counter on tensors without memory. A store of made vectors of
512 numbers is written, and read with every checksum checked. Memory is the peak of a process of its
own, beside what it has with a hundredth of it: the driver's, which holds the list of images and
cuts it into tasks, and a reader's. Half of the images are imported into a new dataset, their files
being there, with the vectors on the samples or in files.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import Record, clip_like
from harness.database import own_database

ARCHITECTURES = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
SIZES = {False: 20_000, True: 200_000}
DIM, SHARD_ROWS = 512, 1024
PIXELS = 224
FOLDER = "s3://a-bucket-of-pictures/2026/11/22/camera-0017"
FILE_BYTES = 100_000


def operations(architecture: str) -> int:
    """Floating-point operations to embed one picture, a product and a sum being two."""
    import open_clip
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.backends.mha.set_fastpath_enabled(False)  # attention in one piece is not counted
    with torch.device("meta"), torch.inference_mode():
        model = open_clip.create_model(architecture, load_weights=False, device="meta")
        with FlopCounterMode(display=False) as counter:
            model.encode_image(torch.empty(1, 3, PIXELS, PIXELS))
    return int(counter.get_total_flops())


def names(start: int, stop: int, folder: str = FOLDER) -> list[str]:
    """Addresses as long as such addresses are."""
    return [f"{folder}/{number:012}.jpg" for number in range(start, stop)]


def write_store(folder: Path, n: int, dtype: str, pictures: str = FOLDER) -> float:
    """Fill a store with made vectors; -> bytes an image on the disk."""
    from fiftyone_isoclip.shards import Recipe, Shard
    from fiftyone_isoclip.shards.store import continue_store

    recipe = Recipe("made vectors", "0" * 64, "float32", "exact", DIM)
    store = continue_store(str(folder), recipe, dtype=dtype, shard_rows=SHARD_ROWS)
    vectors = clip_like(min(n, 20 * SHARD_ROWS), DIM).astype(dtype)
    shards = {}
    for start in range(0, n, SHARD_ROWS):
        paths = tuple(names(start, min(start + SHARD_ROWS, n), pictures))
        rows = np.arange(len(paths))
        embeddings = vectors[(start + rows) % len(vectors)]
        shard = Shard(paths, paths, (FILE_BYTES,) * len(paths), rows, embeddings, {})
        store.write(shard)
        shards[shard.name] = len(paths)
    store.note(complete=True, shards=shards)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / n


def work(task: str, what: str) -> None:
    """Do one thing in this process, and say what it took beside what was loaded before."""
    import pyarrow as pa

    from fiftyone_isoclip.shards import Images, open_store

    def hold(n: int) -> None:
        listed = names(0, n)
        assert Images.of(listed, listed).tasks(pa.chunked_array([], pa.string()), SHARD_ROWS)

    if task == "list":
        hold(int(what) // 100)
    else:
        store = open_store(what)
        store.read(store.names()[0])
    before, started = peak(), time.perf_counter()
    if task == "list":
        hold(int(what))
    else:
        assert not store.look().problems
    print(json.dumps({"seconds": time.perf_counter() - started, "bytes": peak() - before}))


def peak() -> int:
    """The most memory that this process had, in bytes, as Linux tells it.

    Not `getrusage`, which counts what the process that began this one had as well.
    """
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if told is None:
        raise SystemExit("memory is measured on Linux alone")
    return int(told[1]) * 1024


def apart(task: str, what: object) -> dict[str, float]:
    """`work` in a process of its own."""
    command = [sys.executable, __file__, "--work", task, str(what)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def measure_store(n: int, record: Record) -> None:
    """Bytes on the disk, and the time and memory to read all of it."""
    for dtype in ("float32", "float16"):
        with tempfile.TemporaryDirectory() as place:
            size = write_store(Path(place), n, dtype)
            read = apart("read", place)
        record.results[f"store of {dtype}"] = {
            "bytes_an_image": round(size),
            "images_read_a_second": round(n / read["seconds"]),
            "reader_bytes_an_image": round(read["bytes"] / n),
        }
    listed = apart("list", n)
    record.results["driver"] = {"bytes_an_image": round(listed["bytes"] / n)}


def measure_import(n: int, record: Record) -> None:
    """Images a second from a store into a new dataset, and the bytes of its samples."""
    with own_database() as folder:
        from fiftyone_isoclip.dataset import import_store

        pictures = folder / "pictures"
        pictures.mkdir()
        for name in names(0, n, str(pictures)):
            with Path(name).open("wb") as file:
                file.truncate(FILE_BYTES)
        write_store(folder / "store", n, "float32", str(pictures))
        for on_samples, where in ((True, "on samples"), (False, "in files")):
            found = import_store(str(folder / "store"), where, on_samples=on_samples)
            assert (found.embedded, found.added) == (n, n)
            record.results[f"import, vectors {where}"] = {
                "images_a_second": round(n / found.seconds),
                "database_bytes_an_image": round(stored_bytes(where) / n),
            }


def stored_bytes(dataset: str) -> int:
    """What the database says of the samples of a dataset."""
    import fiftyone as fo

    return int(fo.load_dataset(dataset).stats()["samples_bytes"])


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="200,000 images and not 20,000")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(*asked.work)
        return
    n = SIZES[asked.full]
    packages = ("open_clip_torch", "torch", "pyarrow")
    record = Record("scale", question="What does an image cost in a store?", packages=packages)
    record.setup(n=n, dim=DIM, shard_rows=SHARD_ROWS, address_bytes=len(names(0, 1)[0]))
    record.results["operations_an_image"] = {name: operations(name) for name in ARCHITECTURES}
    measure_store(n, record)
    measure_import(n // 2, record)
    record.write(asked.full)


if __name__ == "__main__":
    main()
