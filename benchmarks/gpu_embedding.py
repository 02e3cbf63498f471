"""How fast are images embedded on a GPU, and which of the machine's limits holds it back?

    python benchmarks/gpu_embedding.py                # 2,048 images, ViT-B-32
    python benchmarks/gpu_embedding.py --full         # 16,384 images; B-32, B-16 and L-14
    python benchmarks/gpu_embedding.py --device cpu   # a run through every step, on a small tower

Random weights; JPEGs of 640 x 480. Limits are measured on the same machine: half-precision matrix
products of 8,192 x 8,192, and decoding by all cores without a tower.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from embedding import fiftyones_model
from harness import Record
from harness.database import own_database
from harness.pictures import write_checkpoint, write_photographs

SIZE = (640, 480)
SMALL = "dry-run"
SMALL_CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
TURNS = 5


def seconds_of(run: Callable[[], Any], device: str, turns: int = TURNS) -> float:
    """The median time of a run, once everything it started on the device is done."""
    times = []
    for turn in range(turns + 1):
        started = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        if turn:  # the first one compiles, allocates and fills caches
            times.append(time.perf_counter() - started)
    return median(times)


def matmul_limit(device: str) -> float:
    """Floating-point operations a second in half precision."""
    side = 256 if device == "cpu" else 8192
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / seconds_of(lambda: left @ left, device, 20)


def operations(clip: Any, pixels: torch.Tensor) -> int:
    """Floating-point operations of a forward pass of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # attention in one piece is not counted
    try:
        with FlopCounterMode(display=False) as counter:
            clip.image_embeddings(pixels[:1])
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def decode_limit(clip: Any, paths: list[str]) -> float:
    """Images a second that all cores decode and resize while nothing else is done."""
    with ThreadPoolExecutor() as pool:
        started = time.perf_counter()
        for _ in pool.map(clip.reader.read, paths):
            pass
        return len(paths) / (time.perf_counter() - started)


def decoding_on_the_gpu(paths: list[str], device: str, batch: int) -> float | str:
    """Images a second of torchvision's decoder on the device, or why there is none."""
    if device == "cpu":
        return "not on a GPU"
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        files = [
            torch.frombuffer(bytearray(Path(p).read_bytes()), dtype=torch.uint8) for p in paths
        ]

        def run() -> None:
            for start in range(0, len(files), batch):
                decode_jpeg(files[start : start + batch], ImageReadMode.RGB, device=device)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is to be removed from torchvision
            return round(len(files) / seconds_of(run, device, 2), 1)
    except (ImportError, RuntimeError) as error:
        return f"not available: {str(error).splitlines()[0][:100]}"


def measure(
    checkpoint: str, paths: list[str], device: str, limits: dict[str, Any]
) -> dict[str, Any]:
    """Images a second of one architecture, and its shares of the limits."""
    from fiftyone_isoclip.encoder import embed_images, load_clip
    from fiftyone_isoclip.encoder.batches import BATCH_SIZES

    clip = load_clip(checkpoint, device=device)
    batch = BATCH_SIZES[device.partition(":")[0]]
    shape = (batch, 3, clip.reader.fit.height, clip.reader.fit.width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    folded = clip.folded()

    def end_to_end() -> None:
        assert sum(len(done.rows) for done in embed_images(clip, paths)) == len(paths)

    plain = seconds_of(lambda: clip.image_embeddings(pixels), device, 20)
    isoclip = seconds_of(lambda: folded.image_embeddings(pixels), device, 20)
    forward = batch / plain
    decoding = decode_limit(clip, paths)
    whole = len(paths) / seconds_of(end_to_end, device, 1)
    needed = operations(clip, pixels)
    return {
        "precision": clip.precision,
        "batch_size": batch,
        "gigaflops_an_image": round(needed / 1e9, 2),
        "forward_only": round(forward, 1),
        "forward_share_of_matmul_limit": round(forward * needed / limits["flops"], 3),
        "decode_limit": round(decoding, 1),
        "end_to_end": round(whole, 1),
        "binding_limit": "decoding" if decoding < forward else "forward pass",
        "end_to_end_share_of_decode_limit": round(whole / decoding, 3),
        "end_to_end_share_of_matmul_limit": round(whole * needed / limits["flops"], 3),
        "isoclip_time_over_plain": round(isoclip / plain, 3),
    }


def against_fiftyone(checkpoint: str, paths: list[str], device: str) -> dict[str, float]:
    """Images a second from file to stored embedding, ours and FiftyOne's own model's."""
    import fiftyone as fo

    from fiftyone_isoclip.dataset import embed
    from fiftyone_isoclip.encoder import load_clip

    dataset = fo.Dataset()
    dataset.add_samples([fo.Sample(filepath=path) for path in paths])
    theirs, clip = fiftyones_model(checkpoint), load_clip(checkpoint, device=device)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: embed(dataset, clip, "ours", overwrite=True, progress=False),
        "fiftyone": lambda: dataset.compute_embeddings(theirs, embeddings_field="theirs"),
        "fiftyone_batch_256": lambda: dataset.compute_embeddings(
            theirs, embeddings_field="theirs", batch_size=256
        ),
    }
    speeds = {name: round(len(paths) / seconds_of(run, device, 1), 1) for name, run in ways.items()}
    dataset.delete()
    return speeds


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="Embed images on a GPU.")
    parser.add_argument("--full", action="store_true", help="three architectures, more images")
    parser.add_argument("--device", default="cuda", help="cpu runs through every step, small")
    asked = parser.parse_args()
    dry = asked.device == "cpu"
    if not dry and not torch.cuda.is_available():
        print("torch finds no CUDA device here, so nothing was measured; --device cpu is a dry run")
        return
    packages = ("fiftyone", "open_clip_torch", "torch", "torchvision", "simplejpeg")
    record = Record("gpu_embedding", question="Images a second on a GPU", packages=packages)
    names = [SMALL] if dry else ["ViT-B-32", *(["ViT-B-16", "ViT-L-14"] if asked.full else [])]
    count = 32 if dry else 16_384 if asked.full else 2_048
    gpu = "none, a dry run" if dry else torch.cuda.get_device_name(asked.device)
    limits = {"flops": matmul_limit(asked.device)}
    with own_database() as folder:
        if dry:
            add_small_architecture(folder)
        paths = write_photographs(folder / "pictures", count, SIZE)
        checkpoints = {each: write_checkpoint(folder, each) for each in names}
        for each, checkpoint in checkpoints.items():
            record.results[each] = measure(checkpoint, paths, asked.device, limits)
        speeds = against_fiftyone(checkpoints[names[0]], paths[: max(32, count // 8)], asked.device)
        on_gpu = decoding_on_the_gpu(paths, asked.device, 64)
    record.setup(gpu=gpu, images=count, size="640x480", teraflops_bf16=limits["flops"] / 1e12)
    record.results["file_to_stored"] = speeds
    record.results["jpeg_decoding_on_the_gpu"] = on_gpu
    state(record, names, speeds)
    record.write(asked.full and not dry)


def add_small_architecture(folder: Path) -> None:
    """Make the tower of a dry run known to open_clip."""
    import open_clip

    (folder / f"{SMALL}.json").write_text(json.dumps(SMALL_CONFIG))
    open_clip.add_model_config(folder / f"{SMALL}.json")


def state(record: Record, names: list[str], speeds: dict[str, float]) -> None:
    """Hold what was measured to its targets."""
    times = round(speeds["ours"] / speeds["fiftyone"], 2)
    record.row(
        f"file -> stored embedding, CUDA, 640x480 JPEG, {names[0]}, against FiftyOne's own model",
        target=">= 3 x",
        measured=f"{times} x",
        met=times >= 3,
    )
    for name in names:
        found = record.results[name]
        decoding = found["binding_limit"] == "decoding"
        key = "decode_limit" if decoding else "matmul_limit"
        share = found[f"end_to_end_share_of_{key}"]
        record.row(
            f"file -> embedding, CUDA, {name}, share of the limit that binds",
            target=">= .50",
            measured=f"{share} of the {key.replace('_', ' ')}",
            met=share >= 0.5,
        )
        ratio = found["isoclip_time_over_plain"]
        record.row(
            f"IsoCLIP against plain CLIP, CUDA, {name}, forward pass",
            target="<= 1.00 x the time",
            measured=f"{ratio} x",
            met=ratio < 1.005,
        )


if __name__ == "__main__":
    main()
