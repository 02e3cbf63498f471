"""Stores of shards for tests: what goes in, and what plain pyarrow finds in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_isoclip.demo.scenes import render_scene

N_PICTURES = 6
BROKEN_EVERY = 10


def large_pictures(folder: Path, side: int = 1600) -> list[str]:
    """Scenes that take a while to decode, so that there is time to kill what does it."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(N_PICTURES):
        path = folder / f"{seed}.jpg"
        render_scene(seed, 96).image.convert("RGB").resize((side, side)).save(path, quality=90)
        paths.append(str(path))
    return paths


def write_parquet(file: Path, pictures: list[str], count: int) -> dict[str, str]:
    """A Parquet file of so many ids, many of one picture, every tenth broken; -> id to path."""
    broken = file.with_name("broken.png")
    broken.write_bytes(b"no picture")
    images = {
        f"image-{n:04}": str(broken) if n % BROKEN_EVERY == 7 else pictures[n % len(pictures)]
        for n in range(count)
    }
    pq.write_table(pa.table({"id": list(images), "path": list(images.values())}), file)
    return images


def rows_of(store: Path) -> list[dict[str, object]]:
    """Every row of every shard, as anybody would read them, sorted by id."""
    files = sorted((store / "shards").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: row["id"])


def bytes_of(store: Path) -> dict[str, str]:
    """A digest of each file of a store, but the lock."""
    files = [path for path in sorted(store.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "writer.lock"
    }
