"""Plain CLIP embeddings of image files, in memory and as one file."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.files.listing import Listing, reason_of
from fiftyone_isoclip.index.whole_files import write_whole

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: what is stored is read without

_FORMAT = 1

Progress = Callable[[int], object]
"""Is told how many more images are done."""


@dataclass(frozen=True, slots=True, eq=False)
class FileEmbeddings:
    """The plain CLIP embeddings of the files that could be read.

    Shapes: ``embeddings`` (m, r) float32, as the tower gives them (not normalised); ``rows`` (m,)
    are their positions in ``paths``. ``failed`` maps each other path to the reason; ``aliases``
    are further names of files in ``paths``.
    """

    paths: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]
    failed: dict[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def embedded_paths(self) -> list[str]:
        """The paths of the rows of ``embeddings``."""
        return [self.paths[row] for row in self.rows]


Files = Sequence[str] | Listing | FileEmbeddings
"""Files to look at: their paths, a listing, or what is already embedded."""


def embed_files(
    files: Files,
    clip: Clip,
    *,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> FileEmbeddings:
    """Embed image files in order, each real file once; what is embedded already is returned as is.

    A file that cannot be read fails alone, with its reason.
    """
    from fiftyone_isoclip.encoder import embed_images

    if isinstance(files, FileEmbeddings):
        return files
    listing = files if isinstance(files, Listing) else Listing.of(files)
    rows = [np.empty(0, np.int64)]
    embeddings = [np.empty((0, clip.dim), np.float32)]
    failed = dict(listing.unreadable)
    for batch in embed_images(clip, listing.paths, batch_size=batch_size):
        rows.append(batch.rows)
        embeddings.append(batch.embeddings)
        failed |= {listing.paths[row]: reason for row, reason in batch.failures.items()}
        if progress is not None:
            progress(len(batch.rows) + len(batch.failures))
    return FileEmbeddings(
        listing.paths, np.concatenate(rows), np.concatenate(embeddings), failed, listing.aliases
    )


def write_embeddings(path: str | Path, embedded: FileEmbeddings, clip: Clip) -> None:
    """Store embeddings as one ``.npz`` file, whole or not at all and without pickled objects.

    Arrays: ``paths`` (m,), ``embeddings`` (m, r) float32, ``failed_paths`` and ``failed_reasons``
    (f,), and the scalars ``model`` and ``fingerprint`` of the weights, ``format``, and
    ``checksum`` of all the others.

    Raises:
        StoreError: the file cannot be written; the message tells bytes needed and free.
    """
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "paths": np.array(embedded.embedded_paths, np.str_),
        "embeddings": embedded.embeddings,
        "failed_paths": np.array(list(embedded.failed), np.str_),
        "failed_reasons": np.array(list(embedded.failed.values()), np.str_),
        "model": np.array(clip.checkpoint.name),
        "fingerprint": np.array(clip.fingerprint),
    }
    arrays["checksum"] = np.array(_checksum(arrays))
    needed_bytes = sum(array.nbytes for array in arrays.values())
    write_whole(path, lambda file: np.savez(file, **arrays), needed_bytes)


def read_embeddings(path: str | Path, clip: Clip) -> FileEmbeddings:
    """Read what ``write_embeddings`` stored, for the same weights.

    Raises:
        StoreError: the file is not there, damaged or of another kind, or from other weights.
    """
    try:
        # Checked first because np.load takes anything else for a pickle.
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz file")
        # numpy leaves a damaged file open that it opened itself.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        embedded = _unpack(arrays)
    except MemoryError as error:
        raise StoreError(
            f"{path} cannot be read: memory does not suffice ({error}); free some, or if it should "
            "suffice write it again with `isoclip embed`"
        ) from error
    except Exception as error:  # there is hardly one that numpy does not raise on a damaged file
        raise StoreError(
            f"{path} holds no embeddings that can be read ({reason_of(error)}); "
            "write it again with `isoclip embed`"
        ) from error
    model, fingerprint = str(arrays["model"]), str(arrays["fingerprint"])
    if fingerprint != clip.fingerprint:
        raise StoreError(
            f"{path} was embedded by {model} (weights {fingerprint[:12]}), but "
            f"{clip.checkpoint.name} (weights {clip.fingerprint[:12]}) was asked for; "
            "use the same model or embed again"
        )
    return embedded


def _unpack(arrays: Mapping[str, Any]) -> FileEmbeddings:
    if arrays["format"] != _FORMAT:
        raise ValueError(f"it has format {arrays['format']}, and {_FORMAT} is read")
    others = {name: array for name, array in arrays.items() if name != "checksum"}
    if str(arrays["checksum"]) != _checksum(others):
        raise ValueError("it is not as it was written")
    paths, embeddings = arrays["paths"].tolist(), arrays["embeddings"]
    if embeddings.ndim != 2 or len(embeddings) != len(paths):
        raise ValueError(f"{len(paths)} paths but embeddings of shape {embeddings.shape}")
    failed = dict(
        zip(arrays["failed_paths"].tolist(), arrays["failed_reasons"].tolist(), strict=True)
    )
    return FileEmbeddings((*paths, *failed), np.arange(len(paths)), embeddings, failed)


def _checksum(arrays: Mapping[str, Any]) -> str:
    """A digest of names, kinds, shapes and contents; the zip's own sums leave out some of these."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
