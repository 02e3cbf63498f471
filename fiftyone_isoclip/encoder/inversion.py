"""Images as prompts: a pseudo-word is optimised until its prompt's embedding is the image's.

Source: Mistretta et al., *Cross the Gap: Exposing the Intra-modal Misalignment in CLIP via Modality
Inversion*, ICLR 2025, section 3 (optimisation-based textual inversion, OTI).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fiftyone_isoclip.encoder.clip import Clip
from fiftyone_isoclip.encoder.towers import Embeddings, Portions, head_on_device
from fiftyone_isoclip.errors import CheckpointError, IsoClipError

_FILLER = "a"
"""A word that every tokenizer writes as one number; the pseudo-words take its places."""

_SPREAD = 0.02
"""Standard deviation of the numbers a pseudo-word starts from, as of CLIP's own words."""


STEPS = 150
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class Inversion:
    """Images as prompts.

    Shapes: ``embeddings`` (n, r) float32, plain text embeddings, not normalised; ``losses``
    (steps + 1,), the mean over the images of 1 - cosine before the first step and after each;
    ``cosines`` (n,) in [-1, 1], of each prompt with its image in the end. ``seconds`` is what the
    optimisation took, once the text tower was at hand.
    """

    embeddings: Embeddings
    losses: npt.NDArray[np.float64]
    cosines: npt.NDArray[np.float64]
    seconds: float


class PseudoPrompt:
    """A prompt that ends in pseudo-words, as the text tower of a checkpoint reads it.

    ``width`` is that of a word's vector. The tower is a frozen copy in ``dtype`` on the
    checkpoint's device, whatever precision its own runs in.

    Raises:
        CheckpointError: the tower keeps its words in a way that is not known here, or the
            tokenizer comes from a hub that cannot be reached.
        IsoClipError: the prompt leaves no room for so many pseudo-words.
    """

    def __init__(
        self, clip: Clip, prompt: str, tokens: int, dtype: torch.dtype = torch.float32
    ) -> None:
        row, self._start = _with_places(clip, prompt, tokens)
        self._tower: Any = clip.text_tower(dtype)
        self._words = _word_vectors(self._tower)
        self.device = torch.device(clip.device)
        self._row = row.to(self.device)
        self._head = head_on_device(clip.text_head, self.device, dtype)
        self.width = int(self._words(self._row[:1]).shape[-1])

    def __call__(self, words: Tensor) -> Tensor:
        """Pseudo-words (n, tokens, width) -> text embeddings (n, r), not normalised."""
        start, stop = self._start, self._start + words.shape[1]

        def put_in(_layer: nn.Module, _inputs: object, vectors: Tensor) -> Tensor:
            return torch.cat([vectors[:, :start], words.to(vectors), vectors[:, stop:]], dim=1)

        hook = self._words.register_forward_hook(put_in)
        try:
            rows = self._row.expand(len(words), -1)
            features = self._tower.encode_text(rows, normalize=False)
        finally:
            hook.remove()
        return nn.functional.linear(features, *self._head)


@torch.inference_mode(False)  # which turns gradients on, too
def invert_images(
    clip: Clip,
    embeddings: npt.ArrayLike,
    *,
    prompt: str = "a photo of",
    steps: int = STEPS,
    learning_rate: float = 0.02,
    weight_decay: float = 0.01,
    tokens: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    precision: str = "float32",
    told: Callable[[int], object] | None = None,
) -> Inversion:
    """Find prompts whose embeddings point where plain image embeddings (n, r) do.

    ``prompt`` is followed by ``tokens`` pseudo-words, which AdamW moves ``steps`` times. All
    images start from the same pseudo-words, drawn with ``seed``: what becomes of an image depends
    neither on the others nor, but for rounding, on ``batch_size``, which is halved when the
    device's memory runs out. Many steps amplify that rounding: in ``precision`` "float32" equal
    calls give equal results, and another batch size may end at another prompt as good; "float64"
    takes about twice as long and ends at the same one. ``told`` is called with how many more
    images are done.

    Raises:
        CheckpointError: the checkpoint's text tower or tokenizer is not at hand.
        IsoClipError: the embeddings are not plain ones of this checkpoint, a setting is out of its
            range, or one image alone does not fit into the device's memory.
    """
    targets = _checked(clip, embeddings)
    _check_settings(steps=steps, tokens=tokens, batch_size=batch_size)
    prompted = PseudoPrompt(clip, prompt, tokens, _dtype(precision))
    drawn = torch.randn(tokens, prompted.width, generator=torch.Generator().manual_seed(seed))
    start = (_SPREAD * drawn).to(prompted.device, PRECISIONS[precision])
    optimizer = partial(torch.optim.AdamW, lr=learning_rate, weight_decay=weight_decay)

    def run(rows: slice) -> tuple[Embeddings, npt.NDArray[np.float64]]:
        target = torch.from_numpy(targets[rows]).to(start)
        found = _optimised(prompted, target, start, steps, optimizer)
        if told is not None:
            told(rows.stop - rows.start)
        return found

    began = time.perf_counter()
    portions = Portions(prompted.device)
    portions.rows_at_once = batch_size
    parts = portions(len(targets), run)
    found = np.concatenate([np.empty((0, targets.shape[1]), np.float32), *(e for e, _ in parts)])
    losses = np.concatenate([np.empty((steps + 1, 0)), *(each for _, each in parts)], axis=1)
    seconds = time.perf_counter() - began
    return Inversion(found, losses.mean(axis=1), 1 - losses[-1], seconds)


def _optimised(
    prompted: PseudoPrompt,
    targets: Tensor,
    start: Tensor,
    steps: int,
    make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> tuple[Embeddings, npt.NDArray[np.float64]]:
    """Targets (b, r), first pseudo-words (t, width) -> embeddings (b, r), losses (steps + 1, b)."""
    words = start.repeat(len(targets), 1, 1).requires_grad_()
    optimizer = make_optimizer([words])
    losses = []
    for _ in range(steps):
        loss = 1 - nn.functional.cosine_similarity(prompted(words), targets)
        losses.append(loss.detach())
        # The sum, not the mean: an image's gradient then does not depend on how many there are.
        (words.grad,) = torch.autograd.grad(loss.sum(), words)
        optimizer.step()
    with torch.no_grad():
        embeddings = prompted(words)
        losses.append(1 - nn.functional.cosine_similarity(embeddings, targets))
    return embeddings.float().cpu().numpy(), torch.stack(losses).cpu().double().numpy()


def _with_places(clip: Clip, prompt: str, tokens: int) -> tuple[Tensor, int]:
    """The token numbers (context length,) of a prompt with fillers at its end, and their start."""
    alone, filled = clip.tokenizer([prompt, " ".join([prompt, *[_FILLER] * tokens])])
    start = int((alone != filled).int().argmax())
    places = filled[start : start + tokens]
    # A prompt that is too long is cut: a filler then gives way to the end, or all of them do.
    is_whole = len(places) == tokens and bool((places == places[0]).all())
    if torch.equal(alone, filled) or not is_whole:
        raise IsoClipError(
            f"the prompt {prompt!r} and {tokens} pseudo-words do not fit into the {len(filled)} "
            f"tokens that {clip.checkpoint.name!r} reads; give a shorter prompt or fewer tokens"
        )
    return filled, start


def _word_vectors(tower: nn.Module) -> nn.Module:
    """The layer in which a text tower looks up its words: (n, length) -> (n, length, width)."""
    text: Any = getattr(tower, "text", tower)
    found = getattr(text, "token_embedding", None)
    if found is None and hasattr(getattr(text, "transformer", None), "get_input_embeddings"):
        found = text.transformer.get_input_embeddings()
    if not isinstance(found, nn.Module):
        raise CheckpointError(
            f"the text tower of this {type(tower).__name__} keeps its words in a way that is not "
            "known here, so no image can be inverted through it; use another checkpoint"
        )
    return found


def _checked(clip: Clip, embeddings: npt.ArrayLike) -> Embeddings:
    targets = np.asarray(embeddings, dtype=np.float32)
    dim = clip.text_head.dim
    if targets.ndim != 2 or len(targets) == 0 or targets.shape[1] != dim:
        raise IsoClipError(
            f"embeddings of shape {targets.shape} were given to be inverted; give plain ones of "
            f"{clip.checkpoint.name!r}, of shape (n, {dim}), n >= 1"
        )
    pointless = ~(np.isfinite(targets).all(axis=1) & targets.any(axis=1))
    if pointless.any():
        raise IsoClipError(
            f"{pointless.sum()} of {len(targets)} embeddings have no direction (zeros, NaN or "
            "infinity) and cannot be inverted; leave them out"
        )
    return targets


def _dtype(precision: str) -> torch.dtype:
    if precision not in PRECISIONS:
        choice = ", ".join(PRECISIONS)
        raise IsoClipError(f"precision {precision!r} was asked for; choose one of {choice}")
    return PRECISIONS[precision]


def _check_settings(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise IsoClipError(f"{name}={count} was asked for; give at least 1")
