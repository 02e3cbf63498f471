"""Inversion as a way of comparing: each query becomes a prompt, which is compared with images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.encoder import Clip, invert_images
from fiftyone_isoclip.encoder.inversion import STEPS
from fiftyone_isoclip.evaluation.methods import Method
from fiftyone_isoclip.index.vectors import unit_rows

OTI = "OTI inversion"


def oti_method(
    clip: Clip,
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    *,
    steps: int = STEPS,
    seed: int = 0,
    told: Callable[[int], object] | None = None,
) -> Method:
    """Invert plain image embeddings (n, r), to be compared with plain ones (m, r).

    ``told`` is called with how many more queries are done. What a query alone takes,
    `measure_latency` tells: in batches it is less.

    Raises:
        CheckpointError: the checkpoint's text tower or tokenizer is not at hand.
        IsoClipError: the embeddings are not plain ones of this checkpoint.
    """
    given = np.asarray(queries, dtype=np.float32)
    inverted = invert_images(clip, given, steps=steps, seed=seed, told=told)
    note = (
        f"a pseudo-word a query, {steps} steps of AdamW: the mean cosine of prompt and image rose "
        f"from {1 - inverted.losses[0]:.3f} to {1 - inverted.losses[-1]:.3f}; seed {seed}"
    )
    texts = unit_rows(inverted.embeddings, in_place=True)
    return Method(OTI, "inversion", texts, unit_rows(gallery), note)
