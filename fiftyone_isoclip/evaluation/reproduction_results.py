"""What the paper's experiment gives when it is run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fiftyone_isoclip.encoder.checkpoints import Checkpoint
from fiftyone_isoclip.evaluation.methods import Kind
from fiftyone_isoclip.evaluation.set_scores import MAP
from fiftyone_isoclip.index.vectors import Float64s
from fiftyone_isoclip.projector import Band


@dataclass(frozen=True, eq=False)
class Measured:
    """One method on one set.

    ``metrics`` are means in percent, ``average_precision`` is one number a query in [0, 1], (n,),
    NaN where the protocol leaves the query out. ``seconds_per_query`` is from file to ranks, one
    query at a time, None for texts. ``paper`` is the mAP that the paper reports, in percent, None
    if it reports none.
    """

    method: str
    kind: Kind
    metrics: Mapping[str, float]
    average_precision: Float64s
    seconds_per_query: float | None
    paper: float | None

    @property
    def difference(self) -> float | None:
        """How much more the mAP is than in the paper, in percent points."""
        return None if self.paper is None else self.metrics[MAP] - self.paper


@dataclass(frozen=True, eq=False)
class SetResult:
    """What was measured on a set; ``left_out`` maps images that cannot be read to the reason.

    ``is_apart`` says whether no query is in the gallery.
    """

    name: str
    of_texts: bool
    is_apart: bool
    n_queries: int
    n_gallery: int
    left_out: Mapping[str, str]
    measured: Sequence[Measured]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """One checkpoint on the sets that are there; ``failed`` maps others of them to the reason.

    ``backbone`` is what the paper calls the checkpoint, None if it is none of the paper's;
    ``computed`` says on which device and in which precision its towers ran.
    """

    checkpoint: Checkpoint
    backbone: str | None
    image_band: Band
    text_band: Band
    computed: str
    results: Sequence[SetResult]
    failed: Mapping[str, str]
