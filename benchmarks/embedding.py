"""How fast does an image file become a stored embedding, against FiftyOne's own open_clip model?

    python benchmarks/embedding.py            # 32 images, for a look
    python benchmarks/embedding.py --full     # 128 images, what the README states

ViT-B-32 with the same random weights on both sides, real files, a MongoDB of this benchmark's own.
From file to stored embedding is measured in seconds on the clock, because workers and the database
are processes of their own; from file to pixels in seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Record, in_turns, ratio
from harness.database import own_database
from harness.pictures import write_checkpoint, write_photographs

ARCHITECTURE = "ViT-B-32"
SIZES = {"640x480": (640, 480), "1024x768": (1024, 768), "12 MP": (4000, 3000)}
BATCH = 16
VOC_CLASSES = 20
WARM_UP = 2
TOWER = (
    "nearly all of the time is the tower's, in which bf16 is {gain} x float32 on this processor; "
    "torch.compile and OpenVINO were tried (decision 9)"
)
DECODER = "what is left is mostly decoding; a smaller scale would cost more than 1e-5 in cosine"


def fiftyones_model(checkpoint: str) -> Any:
    """FiftyOne's own model of the same weights, set up as its zoo does it."""
    from fiftyone.utils.open_clip import TorchOpenClipModel, TorchOpenClipModelConfig

    architecture, _, weights = checkpoint.partition("/")
    return TorchOpenClipModel(
        TorchOpenClipModelConfig(
            {
                "clip_model": architecture,
                "pretrained": weights,
                "classes": [f"thing {number}" for number in range(VOC_CLASSES)],
                "text_prompt": "A photo of",
                "output_processor_cls": "fiftyone.utils.torch.ClassifierOutputProcessor",
                "image_size": [224, 224],
                "embeddings_layer": "visual",
            }
        )
    )


def to_stored(checkpoint: str, paths: list[str], turns: int, **ours: Any) -> dict[str, list[float]]:
    """Seconds to embed all files and store the vectors, by way; ``ours`` maps names to models."""
    import fiftyone as fo

    from fiftyone_isoclip.dataset import embed

    dataset = fo.Dataset()
    dataset.add_samples([fo.Sample(filepath=path) for path in paths])
    theirs = fiftyones_model(checkpoint)

    def by_fiftyone(batch_size: int | None) -> Callable[[Any], Any]:
        return lambda view: view.compute_embeddings(
            theirs, embeddings_field="theirs", batch_size=batch_size
        )

    def by_us(name: str, clip: Any) -> Callable[[Any], Any]:
        return lambda view: embed(view, clip, name, overwrite=True, progress=False)

    contenders = {"fiftyone": by_fiftyone(None), "fiftyone_batch_16": by_fiftyone(BATCH)}
    contenders |= {name: by_us(name, clip) for name, clip in ours.items()}
    for run in contenders.values():
        run(dataset.limit(WARM_UP))  # fields are declared and caches filled
    timed = {name: partial(run, dataset) for name, run in contenders.items()}
    seconds = in_turns(timed, turns, time.perf_counter)
    expected = np.stack(dataset.values("theirs")).astype(np.float32)
    for name in ours:
        assert least_cosine(np.stack(dataset.values(name)), expected) > 0.99
    dataset.delete()
    return seconds


def least_cosine(found: Any, expected: Any) -> float:
    """The lowest cosine of a row to its twin."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / lengths).min())


def to_pixels(clip: Any, folder: Path, turns: int) -> dict[str, dict[str, Any]]:
    """Seconds of one thread for a file, open_clip's own transform against both decodings."""
    import torch
    from PIL import Image

    fast, results = clip.with_decoding("fast"), {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, size in SIZES.items():
        paths = write_photographs(folder / name, 2 if name == "12 MP" else 12, size)
        ways = {
            "open_clip": lambda paths=paths: [clip.preprocess(Image.open(path)) for path in paths],
            "exact": lambda paths=paths: [clip.reader.read(path)[0] for path in paths],
            "fast": lambda paths=paths: [fast.reader.read(path)[0] for path in paths],
        }
        pixels = {way: torch.stack(read()) for way, read in ways.items()}
        seconds = in_turns(ways, turns)
        expected = clip.image_embeddings(pixels["open_clip"])
        results[name] = {
            "milliseconds": {
                way: round(1000 * min(s) / len(paths), 2) for way, s in seconds.items()
            },
            "times_faster": {way: ratio(seconds["open_clip"], seconds[way]) for way in ways},
            "one_minus_cosine": {
                way: float(f"{1 - least_cosine(clip.image_embeddings(each), expected):.1e}")
                for way, each in pixels.items()
            },
        }
    torch.set_num_threads(threads)
    return results


def folded_against_plain(clip: Any, turns: int) -> float:
    """Time of a forward pass that ends in IsoCLIP's map, as a share of one that ends in CLIP's."""
    import torch

    pixels = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8)
    folded = clip.folded()
    ways = {
        "plain": lambda: clip.image_embeddings(pixels),
        "isoclip": lambda: folded.image_embeddings(pixels),
    }
    for run in ways.values():
        run()
    seconds = in_turns(ways, turns, time.perf_counter)
    return ratio(seconds["isoclip"], seconds["plain"])


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="Embed image files, ours and FiftyOne's.")
    parser.add_argument("--full", action="store_true", help="128 images and not 32")
    full = parser.parse_args().full
    count, turns = (128, 3) if full else (32, 1)
    packages = ("fiftyone", "open_clip_torch", "torch", "pillow", "simplejpeg")
    record = Record("embedding", question="Time from image file to embedding", packages=packages)
    with own_database() as folder:
        from fiftyone_isoclip.encoder import load_clip

        checkpoint = write_checkpoint(folder, ARCHITECTURE)
        auto = load_clip(checkpoint, device="cpu")
        exact = load_clip(checkpoint, device="cpu", precision="float32")
        paths = write_photographs(folder / "stored", count, SIZES["640x480"])
        seconds = to_stored(checkpoint, paths, turns, auto=auto, float32=exact)
        pixels = to_pixels(exact, folder, 5 if full else 3)
        share = folded_against_plain(auto, 40 if full else 10)
    record.setup(
        architecture=ARCHITECTURE, images=count, turns=turns, batch_size=BATCH, auto=auto.precision
    )
    record.results["images_per_second"] = {
        way: round(count / min(s), 1) for way, s in seconds.items()
    }
    record.results["file_to_pixels"] = pixels
    state(record, seconds, pixels, share, auto.precision)
    record.write(full)


def state(
    record: Record, seconds: dict[str, list[float]], pixels: Any, share: float, precision: str
) -> None:
    """Hold what was measured to its targets."""
    speeds = record.results["images_per_second"]
    gain = round(speeds["auto"] / speeds["float32"], 1)
    stored = "file -> stored embedding, CPU, 640x480 JPEG, ViT-B-32"
    for peer, way, least in (
        ("fiftyone", "auto", 5.0),
        ("fiftyone_batch_16", "auto", 4.0),
        ("fiftyone", "float32", 1.4),
        ("fiftyone_batch_16", "float32", 1.4),
    ):
        times = ratio(seconds[peer], seconds[way])
        kind = precision if way == "auto" else way
        called = "default batch size" if peer == "fiftyone" else "batch size 16"
        record.row(
            f"{stored}, {kind}, against FiftyOne's model at {called}",
            target=f">= {least} x",
            measured=f"{times} x",
            met=times >= least,
            note="" if times >= least else TOWER.format(gain=gain),
        )
    for size, way, least in (
        ("640x480", "exact", 2.2),
        ("1024x768", "exact", 2.2),
        ("12 MP", "exact", 2.2),
        ("12 MP", "fast", 3.7),
    ):
        times = pixels[size]["times_faster"][way]
        record.row(
            f"file -> pixels, one thread, {size} JPEG, {way} decoding, against open_clip's own",
            target=f">= {least} x",
            measured=f"{times} x",
            met=times >= least,
            note="" if times >= least else DECODER,
        )
    record.row(
        f"IsoCLIP against plain CLIP, forward pass, {precision}, batch {BATCH}",
        target="<= 1.00 x the time",
        measured=f"{share} x",
        met=share <= 1.0,
    )


if __name__ == "__main__":
    main()
