"""Labels for images that have none: words that the text tower finds in them, or edits of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import ImageError, IsoClipError
from fiftyone_isoclip.evaluation.sweep import Told
from fiftyone_isoclip.evaluation.tuning import MOST_IMAGES, Tuning, distinct_rows, tune
from fiftyone_isoclip.files.edit_recall import LONGEST_SIDE
from fiftyone_isoclip.files.edits import edit_image
from fiftyone_isoclip.files.listing import reason_of
from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.index.vectors import Rows, unit_rows
from fiftyone_isoclip.projector import Spectrum

if TYPE_CHECKING:
    from PIL import Image

    from fiftyone_isoclip.encoder import Clip  # imports torch: labels are read without

PROMPT = "a photo of a {}"
"""CLIP's own prompt for a name (Radford et al., 2021)."""

TUNING_EDITS = ("combined", "crop 50", "caption bar", "grey", "mirrored", "screenshot")
"""What is done to an image to make others that belong to it: neither too easy nor hopeless."""
MOST_ORIGINALS = 150
"""Images that are edited; of more, so many are drawn."""


@dataclass(frozen=True, eq=False)
class TuningSet:
    """Plain embeddings (n, r) with numbers of classes (n,), -1 for none: what `tune` takes.

    ``whole_classes`` is as there; ``labels_from`` says in words where the labels came from.
    ``failed`` maps a path that could not be read to the reason.
    """

    embeddings: npt.NDArray[np.floating[Any]]
    labels: Rows
    labels_from: str
    whole_classes: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)

    def tune(self, spectrum: Spectrum, *, seed: int = 0, told: Told = None) -> Tuning:
        """Find the band that suits them; ``told`` is called with how many more bands are done.

        Raises:
            VectorError: they are too few, or a row has no direction.
        """
        return tune(
            spectrum,
            self.embeddings,
            self.labels,
            whole_classes=self.whole_classes,
            labels_from=self.labels_from,
            seed=seed,
            told=told,
        )


def read_words(path: str | Path) -> list[str]:
    """The words of a text file, one a line; empty lines are skipped.

    Raises:
        IsoClipError: the file cannot be read, or holds fewer than two words.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise IsoClipError(
            f"the word list {path} cannot be read ({reason_of(error)}); give a text file with one "
            "word or name a line"
        ) from error
    return check_words(lines)


def check_words(words: Sequence[str]) -> list[str]:
    """Words without repetitions and the space around them.

    Raises:
        IsoClipError: they are fewer than two, or one text instead of several.
    """
    if isinstance(words, str):
        raise IsoClipError(
            f"several words are needed to tell images apart by, and the one text {words[:40]!r} "
            "was given; give a list such as ['cat', 'dog']"
        )
    found = list(dict.fromkeys(stripped for word in words if (stripped := word.strip())))
    if len(found) < 2:
        raise IsoClipError(
            f"{len(found)} different words were given to tell images apart by; give two or more "
            "names of what the images show"
        )
    return found


def label_by_names(
    embeddings: npt.ArrayLike, names: Sequence[str | None], labels_from: str = "labels"
) -> TuningSet:
    """Take labels that somebody gave, one for each plain embedding (n, r), None for none."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(filter(None, names)))}
    labels = np.array([numbers.get(name or "", -1) for name in names], np.int64)
    return TuningSet(np.asarray(embeddings), labels, labels_from)


def label_by_words(clip: Clip, embeddings: npt.ArrayLike, words: Sequence[str]) -> TuningSet:
    """Label images by the word whose text embedding is most similar: plain embeddings (n, r).

    These are guesses of the very checkpoint, and no truth: where its text tower is wrong, so are
    they. Words that its tokenizer does not know are left out.

    Raises:
        IsoClipError: there are fewer than two words that it knows.
        CheckpointError: the tokenizer cannot be reached.
    """
    asked = check_words(words)
    known = [word for word in asked if not clip.unknown_words([word])]
    if len(known) < 2:
        raise IsoClipError(
            f"{clip.checkpoint.name} knows {len(known)} of the {len(asked)} words; give two or "
            "more that it knows, or take another checkpoint"
        )
    texts = CosineIndex(clip.text_embeddings([PROMPT.format(word) for word in known]), copy=False)
    nearest = texts.nearest(embeddings, 1).rows[:, 0]
    left_out = f" ({len(asked) - len(known)} unknown ones left out)" * (len(known) < len(asked))
    told = f"pseudo-labels out of {len(known)} words{left_out}, the model's own guesses"
    return TuningSet(np.asarray(embeddings), nearest, told)


def label_by_copies(
    clip: Clip,
    embeddings: npt.ArrayLike,
    paths: Sequence[str],
    *,
    seed: int = 0,
    told: Callable[[int], object] | None = None,
) -> TuningSet:
    """Edit images in memory and embed what comes out: each with its edits is a class.

    Up to 150 images of different content are drawn. A picture is shrunk to 640 pixels on its
    longer side first; one that cannot be read fails alone, with its reason.

    Args:
        clip: the checkpoint that made the embeddings.
        embeddings: plain embeddings (n, r) of the images.
        paths: their files.
        seed: of what is drawn, and of the edits.
        told: called with how many more are done, of `count_originals`.
    """
    from fiftyone_isoclip.encoder import embed_pictures

    plain = np.asarray(embeddings)
    some = np.random.default_rng(seed).permutation(len(plain))[:MOST_IMAGES]
    drawn = some[distinct_rows(unit_rows(plain[some]), np.arange(len(some)))[:MOST_ORIGINALS]]
    parts, labels, failed = [plain[drawn]], [np.arange(len(drawn))], {}
    for label, row in enumerate(drawn.tolist()):
        try:
            edited = _edited(paths[row], seed + label)
        except ImageError as error:
            failed[paths[row]] = str(error)
        else:
            parts.append(embed_pictures(clip, edited))
            labels.append(np.full(len(edited), label))
        if told is not None:
            told(1)
    what = f"edited copies of {len(drawn) - len(failed)} images, not by what images show"
    return TuningSet(np.concatenate(parts), np.concatenate(labels), what, True, failed)


def count_originals(n: int) -> int:
    """How many of n images are edited at most."""
    return min(n, MOST_ORIGINALS)


def _edited(path: str, seed: int) -> list[Image.Image]:
    # Imported only here: labels and words are read without torch.
    from fiftyone_isoclip.encoder import read_image

    picture = read_image(path)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return [edit_image(picture, edit, seed) for edit in TUNING_EDITS]
