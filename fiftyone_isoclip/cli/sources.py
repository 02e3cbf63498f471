"""What PATH stands for, and the embeddings of what it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.screen import note, note_failures, on_stderr, progress_bar
from fiftyone_isoclip.errors import DatasetError, IsoClipError
from fiftyone_isoclip.files import Listing, list_files

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_isoclip.encoder import Clip
    from fiftyone_isoclip.files import FileEmbeddings
    from fiftyone_isoclip.projector import Band

DATASET_PREFIX = "dataset:"
EMBEDDINGS_SUFFIX = ".npz"


def load_dataset(path: str) -> fo.Dataset:
    """The FiftyOne dataset that ``dataset:NAME`` names.

    Raises:
        DatasetError: there is none of that name.
    """
    name = path.removeprefix(DATASET_PREFIX)
    with on_stderr():
        import fiftyone as fo

        if not fo.dataset_exists(name):
            known = ", ".join(fo.list_datasets()) or "none at all"
            raise DatasetError(f"FiftyOne has no dataset called {name!r}; it has {known}")
        return fo.load_dataset(name)


def list_source(path: str) -> Listing:
    """The image files of a folder, a list, a single image or a dataset.

    Raises:
        IsoClipError: nothing is there.
    """
    if path.startswith(DATASET_PREFIX):
        return Listing.of(load_dataset(path).values("filepath"))
    return list_files(path)


def load_model(name: str | None, device: str = "auto", decoding: str = "exact") -> Clip:
    """Load a checkpoint, the demo's if none is named.

    Raises:
        IsoClipError: there is no such checkpoint, device or decoding.
    """
    # Imported only now: a wrong path is told at once, without the seconds that torch takes.
    from fiftyone_isoclip.encoder import load_clip
    from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME

    clip = load_clip(name or DEMO_NAME, device=device, decoding=decoding)
    note(f"{clip.checkpoint.name} on {clip.device}, {clip.precision}")
    return clip


def embed_source(
    path: str,
    model: str | None,
    device: str,
    band: Band | None = None,
    decoding: str = "exact",
) -> tuple[Clip, FileEmbeddings]:
    """Load a checkpoint and embed the images of a source, or read them if they are stored.

    Raises:
        IsoClipError: the source or the checkpoint is not there, they do not belong together, or
            the band leaves nothing of this checkpoint.
    """
    stored = path.endswith(EMBEDDINGS_SUFFIX) and Path(path).is_file()
    listing = Listing(()) if stored else list_source(path)
    clip = load_model(model, device, decoding)
    if band is not None:
        clip.isoclip(band)  # tells a band that is too wide before the work, not after it
    if stored:
        return clip, files.read_embeddings(path, clip)
    with progress_bar("Embedding", len(listing.paths)) as advance:
        embedded = files.embed_files(listing, clip, progress=advance)
    if embedded.aliases:
        note(f"left out {len(embedded.aliases)} further names (links) of files already listed")
    note_failures(embedded.failed, len(embedded.paths))
    return clip, embedded


def require_images(path: str, embedded: FileEmbeddings) -> None:
    """Fail if there was nothing to work on, after the empty result is written.

    Raises:
        IsoClipError: the source names no image, or none that can be read.
    """
    if not embedded.paths:
        raise IsoClipError(f"{path} holds no images; nothing was done")
    if not len(embedded.rows):
        raise IsoClipError(f"none of the {len(embedded.paths)} images of {path} can be read")
