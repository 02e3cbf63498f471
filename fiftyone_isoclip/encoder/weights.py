"""From a checkpoint's name to a model with checked weights, or a sentence that says why not."""

from __future__ import annotations

import hashlib
import logging
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fiftyone_isoclip.encoder.checkpoints import DEMO_FOLDER, DEMO_NAME, Checkpoint
from fiftyone_isoclip.errors import CheckpointError
from fiftyone_isoclip.projector import Head

_SAMPLED_VALUES = 64
"""Values of each tensor that enter a fingerprint; heads enter it whole."""

_MOST_UNPACKED = 2
"""How many times its own size an archive may unpack to. Weights hardly compress."""

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")
_NOT_FETCHED = ("Failed initial config/weights load from HF Hub", "Required pretrained weights")
"""What open_clip says where a repository of the hub gave no configuration or no weights."""


def open_model(checkpoint: Checkpoint) -> nn.Module:
    """Build the open_clip model with its weights: float32, on the processor, for inference.

    Weights are never unpickled (safetensors, or torch.load with weights_only) and never random.

    Raises:
        CheckpointError: the hub cannot be reached, the file is absent or damaged or of another
            architecture or a bomb, a weight is not finite, or nothing says which weights to take.
    """
    import open_clip  # here, because it takes seconds and reading images does not need it

    if not checkpoint.pretrained and not checkpoint.names_itself:
        raise CheckpointError(
            f"{checkpoint.name!r} names no weights, and open_clip would make up random ones; "
            f"write {checkpoint.architecture}/TAG or {checkpoint.architecture}/PATH"
        )
    with _root_logger_untouched():
        options = _options(checkpoint)
        for file in _files(checkpoint, options):
            _require_plain(checkpoint, file)
        try:
            model: nn.Module = open_clip.create_model(
                checkpoint.architecture,
                require_pretrained=True,
                pretrained_text=False,
                weights_only=True,
                **options,
            )
        except Exception as error:
            raise _explained(checkpoint, error) from error
    _require_finite(checkpoint, model)
    return model.float().eval()


def fingerprint(model: nn.Module, architecture: str, image: Head | None, text: Head | None) -> str:
    """A hex digest that tells whether two embeddings came from the same weights.

    Taken in float32, so neither the precision of a run nor the file format changes it. It covers
    the architecture, the preprocessing, both heads whole, and of every other tensor its name, its
    shape and an even sample of values. The model's heads have been taken out.
    """
    digest = hashlib.sha256(architecture.encode())
    preprocessing: Any = model.visual.preprocess_cfg  # type: ignore[union-attr]  # set by open_clip
    digest.update(repr(sorted(preprocessing.items())).encode())
    for head in (image, text):
        digest.update(b"none" if head is None else head.matrix.astype(np.float32).tobytes())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.reshape(-1)
        sample = values[:: max(1, values.numel() // _SAMPLED_VALUES)].float().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()


def _options(checkpoint: Checkpoint) -> dict[str, Any]:
    """What open_clip must be told besides the architecture: a file on disk and its particulars."""
    import open_clip

    if checkpoint.names_itself:
        return {}
    if checkpoint.architecture == DEMO_NAME and DEMO_NAME not in open_clip.list_models():
        open_clip.add_model_config(DEMO_FOLDER / f"{DEMO_NAME}.json")
    if Path(checkpoint.pretrained).is_file():
        return {"pretrained": checkpoint.pretrained}
    tag = open_clip.get_pretrained_cfg(
        checkpoint.architecture.removesuffix("-quickgelu"), checkpoint.pretrained
    )
    if not tag:
        raise CheckpointError(
            f"the weights of {checkpoint.name!r} should be in {checkpoint.pretrained!r}, but there "
            "is no such file; put it back, or reinstall fiftyone-isoclip if it was part of it"
        )
    try:
        file = open_clip.download_pretrained(tag)
    except Exception as error:
        raise _unreachable(checkpoint, error) from error
    # A tag's weights were trained with one activation; open_clip only warns of the wrong one.
    quick = bool(tag.get("quick_gelu", False))
    return {"pretrained": file, "force_preprocess_cfg": tag, "force_quick_gelu": quick}


def _files(checkpoint: Checkpoint, options: Mapping[str, Any]) -> list[Path]:
    """The files that open_clip may read weights from, as far as they are here already."""
    if "pretrained" in options:
        return [Path(options["pretrained"])]
    kind, _, place = checkpoint.architecture.partition(":")
    folder = sorted(Path(place).glob("*")) if kind == "local-dir" else []
    return [file for file in folder if file.suffix in _WEIGHT_SUFFIXES]


def _require_plain(checkpoint: Checkpoint, file: Path) -> None:
    """Refuse what would be waited for without end, or unpacked without end."""
    if not file.is_file():
        raise CheckpointError(
            f"the weights of {checkpoint.name!r} should be in {file.name!r}, which is no regular "
            "file; put the file itself there"
        )
    if zipfile.is_zipfile(file):  # as torch.save writes it, without compression
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MOST_UNPACKED * file.stat().st_size:
            raise CheckpointError(
                f"{checkpoint.name!r} is an archive of {file.stat().st_size:,} bytes that unpacks "
                f"to {unpacked:,}, which weights never do; it is refused: fetch it again"
            )


def _explained(checkpoint: Checkpoint, error: Exception) -> CheckpointError:
    told = textwrap.shorten(str(error), 300, placeholder=" ...")
    if checkpoint.names_itself and told.startswith(_NOT_FETCHED):
        return _unreachable(checkpoint, error)
    if "weights_only" in str(error):
        return CheckpointError(
            f"{checkpoint.name!r} is damaged or holds more than weights, and reading it could run "
            "code; it is refused: save its state_dict as .safetensors and name that file"
        )
    return CheckpointError(
        f"{checkpoint.name!r} cannot be loaded into the architecture {checkpoint.architecture} "
        f"({told or type(error).__name__}); check that the file is complete and that the "
        "architecture is the one it was trained with"
    )


def _unreachable(checkpoint: Checkpoint, error: Exception) -> CheckpointError:
    told = textwrap.shorten(str(error), 200, placeholder=" ...")
    if checkpoint.architecture.startswith("local-dir:"):
        return CheckpointError(
            f"the folder of {checkpoint.name!r} holds no weights ({told}); put "
            "open_clip_model.safetensors beside its open_clip_config.json"
        )
    return CheckpointError(
        f"the weights of {checkpoint.name!r} could not be fetched from the model hub ({told}); "
        "connect to the network and try again, or fetch the file on another machine and name it "
        "as ARCHITECTURE/PATH, or use isoclip-demo, which needs no network"
    )


def _require_finite(checkpoint: Checkpoint, model: nn.Module) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        # The causal mask is -inf by design and is built, not loaded.
        if not name.endswith("attn_mask") and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{checkpoint.name!r} holds NaN or infinity in {name!r}; the file is damaged "
                "or the training diverged: fetch it again or use another checkpoint"
            )


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Keep open_clip's ``logging.info`` from installing a handler for the whole process."""
    quiet = logging.NullHandler()
    logging.root.addHandler(quiet)
    try:
        yield
    finally:
        logging.root.removeHandler(quiet)
