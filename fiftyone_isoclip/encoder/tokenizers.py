"""How prompts become numbers for a text tower."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import cast

import torch

from fiftyone_isoclip.encoder.checkpoints import DEMO_FOLDER, DEMO_NAME, Checkpoint
from fiftyone_isoclip.encoder.words import WordTokenizer
from fiftyone_isoclip.errors import CheckpointError

Tokenizer = Callable[[Sequence[str]], torch.Tensor]
"""n prompts -> (n, context length) int64."""


def open_tokenizer(checkpoint: Checkpoint, context_length: int) -> Tokenizer:
    """The tokenizer that a checkpoint was trained with.

    Raises:
        CheckpointError: it belongs to a hub repository that is not at hand (SigLIP and Hugging
            Face text towers), or wants to run code of its own; images can still be embedded.
    """
    import open_clip  # here, because it takes seconds and images need no tokenizer

    if checkpoint.architecture == DEMO_NAME:
        return WordTokenizer.read(DEMO_FOLDER / f"{DEMO_NAME}-words.txt", context_length)
    try:
        settings = open_clip.get_model_config(checkpoint.architecture)["text_cfg"]
        if settings.get("tokenizer_kwargs", {}).get("trust_remote_code"):
            raise PermissionError("its configuration asks to run code that comes with it")
        return cast(Tokenizer, open_clip.get_tokenizer(checkpoint.architecture))
    except Exception as error:
        told = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise CheckpointError(
            f"the tokenizer of {checkpoint.name!r} could not be opened ({told}); it comes from the "
            "model hub and needs `pip install transformers`: connect once, or search by image"
        ) from error
