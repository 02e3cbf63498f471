"""Which band suits a set of labelled images: chosen on one half of them, reported on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.halves import split_rows
from fiftyone_isoclip.evaluation.held_out import is_plain, judge, make_spaces
from fiftyone_isoclip.evaluation.metrics.bootstrap import Interval
from fiftyone_isoclip.evaluation.sweep import Plane, Ranking, Told, default_step, sweep
from fiftyone_isoclip.index import find_pairs, join_keepers
from fiftyone_isoclip.index.vectors import Float32s, Rows, unit_rows
from fiftyone_isoclip.projector import WHOLE, Band, Spectrum

MOST_IMAGES = 5_000
"""Of more, so many are drawn: the time grows with their square."""
MOST_QUERIES = 300
"""Images of the choosing half that are asked about under every band; each ranks the whole half."""
FEWEST_QUERIES = 20
"""Images in each half that have another of their class there: fewer carry no interval."""

_SAME_CONTENT = 1 - 1e-6
"""The cosine of two embeddings of the same pixels, which may come from different batches."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """The bands of a checkpoint on one set of labelled images, and whether one is worth having.

    Attributes:
        planes: the mAP of every band on the choosing half, without and with centring.
        candidate: the best of them, None where that is plain or mean-centred CLIP itself.
        held_out: mAP on the held-out half, by method: plain CLIP, mean-centred CLIP, and the best
            band of either plane.
        over_plain: the candidate's mAP there less that of plain CLIP.
        over_centred: the candidate's mAP there less that of mean-centred plain CLIP.
        centring: what mean-centred plain CLIP has over plain CLIP there.
        choosing: (c,) the rows that were chosen on; ``holding`` (h,) those that were held out.
        n_queries: rows held out that have another of their class there.
        n_classes: classes of the rows that were used.
        n_unlabelled: rows left out without a label, ``n_undrawn`` because there were more than are
            used, ``n_repeated`` of those drawn with the content of another.
        labels_from: where the labels came from, in words.
    """

    planes: tuple[Plane, Plane]
    candidate: Band | None
    held_out: Mapping[str, Interval]
    over_plain: Interval | None
    over_centred: Interval | None
    centring: Interval
    choosing: Rows
    holding: Rows
    n_queries: int
    n_classes: int
    n_unlabelled: int
    n_repeated: int
    n_undrawn: int
    labels_from: str

    @property
    def recommended(self) -> Band:
        """The candidate if it beats plain and mean-centred CLIP beyond the intervals; or plain."""
        if self.candidate is None or self.over_plain is None or self.over_centred is None:
            return WHOLE
        beats_both = self.over_plain.low > 0 and self.over_centred.low > 0
        return self.candidate if beats_both else WHOLE


def tune(
    spectrum: Spectrum,
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    step: int | None = None,
    held_out: float = 0.5,
    whole_classes: bool = False,
    labels_from: str = "labels",
    seed: int = 0,
    told: Told = None,
) -> Tuning:
    """Score every band on one half of labelled images, and the best of them on the other half.

    The halves share no image and no content: of equal embeddings the first is kept. The centre is
    the mean of the choosing half.

    Args:
        spectrum: of the checkpoint that made the embeddings.
        embeddings: plain embeddings (n, r) of any scale.
        labels: (n,) numbers of classes from 0 up; rows with a negative one have none.
        step: directions between two bands, by default a thirty-second of all.
        held_out: the share to report on, in (0, 1).
        whole_classes: whether the halves share no class either, for classes that are edits of one
            image; intervals are then of other classes.
        labels_from: where the labels come from, in words.
        seed: of the halves, and of what is drawn.
        told: called with how many more bands are done, of twice `sweep.count_bands`.

    Raises:
        VectorError: labels and embeddings do not fit together, a row has no direction, the step or
            the share is not a possible one, or there are too few labels.
    """
    step = default_step(spectrum.rank) if step is None else step
    units, numbers = unit_rows(embeddings), np.asarray(labels)
    _check(spectrum, units, numbers, step, held_out)
    rng = np.random.default_rng(seed)
    labelled = np.flatnonzero(numbers >= 0)
    drawn = np.sort(rng.permutation(labelled)[:MOST_IMAGES])
    kept = distinct_rows(units, drawn)
    sides = split_rows(numbers[kept], rng, held_out=held_out, whole_classes=whole_classes)
    choosing, holding = kept[sides[0]], kept[sides[1]]
    _check_halves(numbers[choosing], numbers[holding], len(kept), labels_from)
    centre = units[choosing].astype(np.float64).mean(axis=0)
    ranking = Ranking(_draw_queries(numbers[choosing], rng), numbers[choosing])
    scan = partial(sweep, spectrum, units[choosing], ranking, step=step, told=told)
    planes = scan(), scan(centre=centre)
    best = max((plane.best for plane in planes), key=lambda band: planes[band.centred].score(band))
    candidate = None if is_plain(best) else best
    spaces = make_spaces(spectrum, units[holding], centre, [plane.best for plane in planes])
    groups = numbers[holding] if whole_classes else np.arange(len(holding))
    figures, differences = judge(spaces, str(best), numbers[holding], groups, rng)
    return Tuning(
        planes=planes,
        candidate=candidate,
        held_out=figures,
        over_plain=None if candidate is None else differences[0],
        over_centred=None if candidate is None else differences[1],
        centring=differences[2],
        choosing=choosing,
        holding=holding,
        n_queries=len(_with_mates(numbers[holding])),
        n_classes=len(np.unique(numbers[kept])),
        n_unlabelled=len(numbers) - len(labelled),
        n_repeated=len(drawn) - len(kept),
        n_undrawn=len(labelled) - len(drawn),
        labels_from=labels_from,
    )


def _check(
    spectrum: Spectrum, units: Float32s, labels: npt.NDArray[Any], step: int, held_out: float
) -> None:
    if labels.shape != (len(units),) or labels.dtype.kind not in "iu":
        raise VectorError(
            f"A whole number is needed as label of each of {len(units)} embeddings; found "
            f"{labels.dtype} of shape {labels.shape}. Number the classes from 0, -1 for no label."
        )
    if len(units) and units.shape[1] != spectrum.image.dim:
        raise VectorError(
            f"Embeddings of dim {units.shape[1]} were given with a spectrum of dim "
            f"{spectrum.image.dim}; take both from the same checkpoint."
        )
    if not 0 < held_out < 1:
        raise VectorError(
            f"A share of {held_out} was to be held out; give one above 0 and below 1, such as 0.5."
        )
    if not 1 <= step < spectrum.rank:
        raise VectorError(
            f"A step of {step} directions was asked for; give 1 to {spectrum.rank - 1} of the "
            f"{spectrum.rank} there are."
        )


def distinct_rows(units: Float32s, rows: Rows) -> Rows:
    """Of up to `MOST_IMAGES` rows of length 1, those whose content no earlier one has."""
    if len(rows) < 2:
        return rows
    # Equal numbers go first: thousands of blank pictures would make millions of pairs.
    rows = rows[np.sort(np.unique(units[rows], axis=0, return_index=True)[1])]
    pairs = find_pairs(units[rows], _SAME_CONTENT)
    return np.delete(rows, join_keepers(pairs, prefer=np.arange(len(rows)))[1])


def _with_mates(labels: Rows) -> Rows:
    """The rows that have another one of their class."""
    _, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[number] > 1)


def _check_halves(choosing: Rows, holding: Rows, n: int, labels_from: str) -> None:
    found = [len(_with_mates(side)) for side in (choosing, holding)]
    classes = min(len(np.unique(side)) for side in (choosing, holding))
    if min(found) < FEWEST_QUERIES or classes < 2:
        raise VectorError(
            f"A band is chosen on one half of the images and judged on the other, and each half "
            f"needs {FEWEST_QUERIES} images with another one of their class and two classes. "
            f"{n} different images with {labels_from} were found, which leave {found[0]} and "
            f"{found[1]} such images and {classes} classes. Give more images or labels."
        )


def _draw_queries(labels: Rows, rng: np.random.Generator) -> Rows:
    return np.sort(rng.permutation(_with_mates(labels))[:MOST_QUERIES])
