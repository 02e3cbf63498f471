"""Train the self-trained demo weights: a small CLIP, from rendered scenes and captions only.

    python -m scripts.train_demo_checkpoint

It shows the machinery, and how the band changes what counts as similar; it does not reproduce
the paper's gain, which belongs to CLIPs trained on hundreds of millions of photographs.

The loss is CLIP's (a mildly cropped picture against its caption) plus an image-to-image
contrastive term between that view and a strongly changed one (as SLIP adds to CLIP, here on the
embedding itself). Without the second term nothing tells the tower that a caption bar or a
quarter turn leaves a picture the same. No photograph is used, and nothing is downloaded.

The committed weights are these 1,300 steps: 27 minutes on two processor cores that other work
shared (a step takes about 0.7 s on two free ones). The gradients of the workers are averaged and
each worker contrasts within its own half of the batch, so the number of workers is part of the
recipe; equal options on one kind of processor give equal weights.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder.words import WordTokenizer
from scripts.demo_augmentations import MILD, STRONG, Augmenter

NAME = "isoclip-demo"
HOME = Path("fiftyone_isoclip/encoder/demo")
STEPS = 1300
POOL_SIDE = 96
IMAGE_WEIGHT = 2.0
IMAGE_TEMPERATURE = 0.1
AVERAGE_KEEPS = 0.99
WAIT_SECONDS = 600
MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)

STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)


def _render(seed: int) -> tuple[np.ndarray, str]:
    scene = render_scene(seed, POOL_SIDE)
    return np.asarray(scene.image).transpose(2, 0, 1), scene.caption


def render_pool(count: int, workers: int) -> tuple[Tensor, list[str]]:
    """Render the training scenes: seeds 0..count-1 -> (count, 3, side, side) uint8, captions."""
    pixels = np.empty((count, 3, POOL_SIDE, POOL_SIDE), dtype=np.uint8)
    captions = []
    with get_context("fork").Pool(workers) as pool:
        for row, (picture, caption) in enumerate(pool.imap(_render, range(count), 256)):
            pixels[row] = picture
            captions.append(caption)
    return torch.from_numpy(pixels), captions


def contrast(left: Tensor, right: Tensor, scale: Tensor | float, twins: Tensor) -> Tensor:
    """Symmetric InfoNCE of two (n, r) sets; pairs marked in twins (n, n) are no negatives."""
    logits = (scale * left @ right.T).masked_fill(twins, -1e4)
    target = torch.arange(len(left))
    return (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2


def build(config: Path) -> CLIP:
    """Build the untrained model through open_clip's own factory."""
    open_clip.add_model_config(config)
    return open_clip.create_model(NAME)


def save(weights: dict[str, Tensor], path: Path, steps: int) -> None:
    """Write the weights as float32 safetensors that say what they are."""
    state = {name: value.detach().contiguous() for name, value in weights.items()}
    notes = {
        "format": "pt",
        "title": "self-trained demo weights",
        "note": "Trained on rendered scenes only. Shows the machinery and how the band changes "
        "what counts as similar; does not reproduce the paper's gain.",
        "steps": str(steps),
    }
    save_file(state, path, metadata=notes)


def _optimizer(model: CLIP, rate: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _pace(step: int) -> float:
    """The learning rate's factor: it knows no last step, so that training may stop at any."""
    return min((step + 1) / 100, math.sqrt(400 / (step + 1)), 1.0)


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes that train together: which one this is, and where they meet.

    ``gradients`` (workers, parameters) is memory that all of them see.
    """

    worker: int
    gradients: Tensor
    barrier: Barrier

    def share(self, model: CLIP) -> None:
        """Give every worker the mean of all workers' gradients."""
        own = [p.grad for p in model.parameters()]
        self.gradients[self.worker] = torch.cat([gradient.flatten() for gradient in own])
        self.barrier.wait(WAIT_SECONDS)
        mean = torch.split(self.gradients.mean(dim=0), [gradient.numel() for gradient in own])
        self.barrier.wait(WAIT_SECONDS)
        for gradient, part in zip(own, mean, strict=True):
            gradient.copy_(part.view_as(gradient))


def _blend_into(average: dict[str, Tensor], model: CLIP, step: int) -> None:
    """Move the running average of the weights towards the weights of this step."""
    keep = min(AVERAGE_KEEPS, step / (step + 10))
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)


def train(
    model: CLIP, crew: Crew, scenes: tuple[Tensor, Tensor], options: argparse.Namespace
) -> None:
    """Train; every worker takes its part of each batch, the first one writes the average."""
    worker, (pool, tokens) = crew.worker, scenes
    augment = Augmenter(model.visual.image_size, options.seed + 1000 * worker)
    draws = torch.Generator().manual_seed(options.seed)
    optimizer = _optimizer(model, options.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _pace)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model.visual.to(memory_format=torch.channels_last)
    start = time.monotonic()
    for step in range(1, options.steps + 1):
        batch = torch.randint(len(pool), (options.batch,), generator=draws)
        rows = batch[worker :: options.workers]
        losses = _losses(model, augment, pool[rows], tokens[rows], rows)
        optimizer.zero_grad()
        torch.autograd.backward(losses[0] + IMAGE_WEIGHT * losses[1])
        crew.share(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6)
            _blend_into(average, model, step)
        if worker == 0 and (step % 50 == 0 or step == options.steps):
            spent = time.monotonic() - start
            print(f"{step} {spent:.0f}s caption {losses[0]:.3f} image {losses[1]:.3f}", flush=True)
            save(average, options.out / f"{NAME}.safetensors", step)


def _losses(
    model: CLIP, augment: Augmenter, pictures: Tensor, tokens: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """The caption loss and the image-to-image loss of one batch."""
    n = len(rows)
    with torch.no_grad():
        views = torch.cat([augment(pictures, MILD), augment(pictures, STRONG)])
        views = ((views - MEAN) / STD).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        images, texts = model.visual(views), model.encode_text(tokens)
    images = functional.normalize(images.float(), dim=1)
    texts = functional.normalize(texts.float(), dim=1)
    others = ~torch.eye(n, dtype=torch.bool)
    same_words = (tokens[:, None] == tokens[None, :]).all(-1) & others
    same_scene = (rows[:, None] == rows[None, :]) & others
    loss_text = contrast(images[:n], texts, model.logit_scale.exp(), same_words)
    return loss_text, contrast(images[:n], images[n:], 1 / IMAGE_TEMPERATURE, same_scene)


def work(crew: Crew, scenes: tuple[Tensor, Tensor], options: argparse.Namespace) -> None:
    """One worker process: one thread, one part of every batch."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    train(build(options.config), crew, scenes, options)


def work_together(scenes: tuple[Tensor, Tensor], options: argparse.Namespace) -> None:
    """Start the workers and wait for all of them."""
    context = get_context("fork")
    torch.manual_seed(options.seed)
    n = sum(p.numel() for p in build(options.config).parameters())
    gradients = torch.zeros(options.workers, n)
    gradients.share_memory_()  # type: ignore[no-untyped-call]
    barrier = context.Barrier(options.workers)
    crews = [Crew(worker, gradients, barrier) for worker in range(options.workers)]
    processes = [context.Process(target=work, args=(crew, scenes, options)) for crew in crews]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a worker stopped before the last step; its message is above")


def main() -> None:
    """Render, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--scenes", type=int, default=24000)
    parser.add_argument("--batch", type=int, default=256, help="of all workers together")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=51)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--config", type=Path, default=HOME / f"{NAME}.json")
    parser.add_argument("--out", type=Path, default=HOME)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pool, captions = render_pool(options.scenes, options.workers)
    words = sorted(set(re.findall("[a-z]+", " ".join(captions))))
    (options.out / f"{NAME}-words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    text = json.loads(options.config.read_text(encoding="utf-8"))["text_cfg"]
    tokenizer = WordTokenizer(words, text["context_length"])
    if tokenizer.vocab_size != text["vocab_size"]:
        raise SystemExit(f"vocab_size in {options.config} must be {tokenizer.vocab_size}")
    work_together((pool, tokenizer(captions)), options)


if __name__ == "__main__":
    main()
