"""Which checkpoints are known by name, and which band belongs to each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fiftyone_isoclip.errors import CheckpointError
from fiftyone_isoclip.projector import Band, Spectrum

_PAPER = "IsoCLIP (arXiv:2603.19862), official code, bands for image-image and text-text"
_IDENTITY_NOTE = (
    "The paper linearises the pooling MLP of this tower, which has no final linear map; here the "
    "exact choice A = I is made, so the published band is a starting point: tune it."
)
_UNPUBLISHED_NOTE = (
    "No band is published for this checkpoint: the bottom is read off its spectrum, the top is a "
    "cautious default that no measurement on it supports. Tune the band on your own images."
)

UNPUBLISHED_TOP_SHARE = {"image": 0.05, "text": 0.01}
"""Share of the rank dropped at the top where no band is published.

Half of the smallest published share for images (50 of 512) and about the median for text
(2 to 20 of 512). Small CLIPs lost accuracy with every cut of the top, so less is safer.
"""

DEMO_NAME = "isoclip-demo"
DEMO_NOTE = "self-trained demo weights, which say nothing about published checkpoints"
"""What stands beside every measurement made with them."""
DEMO_FOLDER = Path(__file__).parent / "demo"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A set of CLIP weights and the bands that suit it.

    ``name`` is how this package calls it. ``architecture`` is open_clip's name (or starts with
    ``hf-hub:`` or ``local-dir:``); ``pretrained`` is open_clip's tag or the path of a file with
    weights. A band of None is worked out from the spectrum once the weights are loaded.
    ``source`` says where the bands come from, ``note`` what to beware of.
    """

    name: str
    architecture: str
    pretrained: str
    image_band: Band | None = None
    text_band: Band | None = None
    source: str = "open_clip"
    note: str = _UNPUBLISHED_NOTE

    @property
    def names_itself(self) -> bool:
        """Whether the architecture brings its own weights, as a hub repository or a folder."""
        return self.architecture.startswith(("hf-hub:", "local-dir:"))


_DATACOMP = "datacomp_xl_s13b_b90k"
_CHECKPOINTS = (
    Checkpoint(
        "isoclip-vit-b-32-openai", "ViT-B-32", "openai", Band(150, 50), Band(20, 100), _PAPER, ""
    ),
    Checkpoint(
        "isoclip-vit-b-16-openai", "ViT-B-16", "openai", Band(200, 50), Band(10, 50), _PAPER, ""
    ),
    Checkpoint(
        "isoclip-vit-l-14-openai", "ViT-L-14", "openai", Band(250, 200), Band(10, 300), _PAPER, ""
    ),
    Checkpoint(
        "isoclip-vit-b-32-datacomp-xl", "ViT-B-32", _DATACOMP, Band(50, 50), None, _PAPER, ""
    ),
    Checkpoint(
        "isoclip-vit-b-16-datacomp-xl",
        "ViT-B-16",
        _DATACOMP,
        Band(100, 100),
        Band(2, 150),
        _PAPER,
        "",
    ),
    Checkpoint(
        "isoclip-pe-core-b-16-meta", "PE-Core-B-16", "meta", Band(300, 50), None, _PAPER, ""
    ),
    Checkpoint(
        "isoclip-vit-b-16-siglip2-webli",
        "ViT-B-16-SigLIP2",
        "webli",
        Band(350, 50),
        None,
        _PAPER,
        _IDENTITY_NOTE,
    ),
    Checkpoint(
        DEMO_NAME,
        DEMO_NAME,
        str(DEMO_FOLDER / f"{DEMO_NAME}.safetensors"),
        Band(4, 32),
        Band(0, 32),
        source="trained by this project on rendered scenes only, and the bands chosen there",
        note="Shows the machinery, offline; it does not reproduce the paper's gain.",
    ),
)


def list_checkpoints() -> tuple[Checkpoint, ...]:
    """Every checkpoint known by a name of its own: those with published bands, and the demo."""
    return _CHECKPOINTS


def find_checkpoint(name: str) -> Checkpoint:
    """Look a checkpoint up by name; nothing is downloaded or read.

    A name is one of ``list_checkpoints``, or open_clip's ``ARCHITECTURE/TAG`` such as
    ``ViT-B-32/openai``, or ``ARCHITECTURE/PATH`` of a file with weights, or
    ``hf-hub:ORGANISATION/MODEL``, or ``local-dir:PATH``.

    Raises:
        CheckpointError: no such name, architecture, tag or file; the message suggests the nearest.
    """
    for known in _CHECKPOINTS:
        if name.lower() == known.name:
            return known
    if name.startswith(("hf-hub:", "local-dir:")):
        return Checkpoint(name, name, "")
    architecture, _, pretrained = name.partition("/")
    _require_architecture(name, architecture)
    _require_weights(name, architecture, pretrained)
    return _published(architecture, pretrained) or Checkpoint(name, architecture, pretrained)


def weights_path(name: str) -> Path | None:
    """The file or folder that a name asks for, whether or not it is there; None if for none."""
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:"))
    architecture, _, pretrained = name.partition("/")
    if not pretrained or name.startswith("hf-hub:"):
        return None

    import open_clip  # here, because it takes seconds and naming a checkpoint should not

    if architecture not in open_clip.list_models() or _is_tag(architecture, pretrained):
        return None
    return Path(pretrained)


def unpublished_band(spectrum: Spectrum, side: str) -> Band:
    """The band of a checkpoint that has none: k_bottom by the spectrum, k_top a cautious share.

    ``side`` is "image" or "text". The top is not in the spectrum: it depends on the task.
    """
    return Band(int(UNPUBLISHED_TOP_SHARE[side] * spectrum.rank), spectrum.bottom_by_line())


def _published(architecture: str, pretrained: str) -> Checkpoint | None:
    tag = pretrained.lower().replace("-", "_")
    for known in _CHECKPOINTS:
        if (architecture.removesuffix("-quickgelu"), tag) == (known.architecture, known.pretrained):
            return known
    return None


def _require_architecture(name: str, architecture: str) -> None:
    import open_clip  # here, because it takes seconds and naming a checkpoint should not

    models = open_clip.list_models()
    if architecture in models:
        return
    known = [checkpoint.name for checkpoint in _CHECKPOINTS]
    tagged = [f"{model}/{tag}" for model, tag in open_clip.list_pretrained()]
    raise CheckpointError(
        f"no checkpoint is called {name!r}{_nearest(name, [*known, *tagged, *models])}; "
        f"known names are {', '.join(known)}, and every ARCHITECTURE/TAG of open_clip"
    )


def _require_weights(name: str, architecture: str, pretrained: str) -> None:
    import open_clip  # here, because it takes seconds and naming a checkpoint should not

    if _is_tag(architecture, pretrained) or Path(pretrained).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    choice = f"{architecture}/{tags[0]}" if tags else f"{architecture}/PATH-OF-A-FILE"
    listed = f"its tags are {', '.join(tags)}" if tags else "it has no published weights"
    if not pretrained:
        raise CheckpointError(
            f"{name!r} names an architecture without weights; {listed}: write for example {choice}"
        )
    raise CheckpointError(
        f"{name!r} asks for the weights {pretrained!r}, which is neither a tag of {architecture} "
        f"nor an existing file; {listed}{_nearest(pretrained, tags)}"
    )


def _is_tag(architecture: str, pretrained: str) -> bool:
    import open_clip  # here, because it takes seconds and naming a checkpoint should not

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    return pretrained.lower().replace("-", "_") in tags


def _nearest(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
