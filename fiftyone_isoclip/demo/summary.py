"""What the demonstration found, and how that compares with what was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fiftyone_isoclip.dataset.groups import DuplicateReport
from fiftyone_isoclip.demo.pictures import ORIGINAL, Picture
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What the demonstration did and found.

    ``precision``, ``recall`` and ``recall_by_kind`` compare with the planted copies (see
    ``score_duplicates``) and are None or empty for pictures of your own, where nothing is known.
    ``seconds`` is by step. ``failed`` maps paths to the reason why there is no embedding.
    """

    dataset: str
    folder: str
    images: int
    planted: int
    failed: Mapping[str, str]
    groups: int
    duplicates: int
    precision: float | None
    recall: float | None
    recall_by_kind: Mapping[str, float]
    clusters: int
    similarity: float
    band: str
    model: str
    device: str
    brain_key: str
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in self.seconds.items())
        return "\n".join(
            (
                f"dataset      {self.dataset!r}: {self.images} images, {len(self.failed)} failed",
                f"checkpoint   {_called(self.model)}, band {self.band}, on {self.device}",
                f"duplicates   {self.groups} groups, {self.duplicates} images that could go, at "
                f"similarity {self.similarity:g}",
                *self._truth(),
                f"clusters     {self.clusters}",
                f"similarity   index {self.brain_key!r}, for the App's magnifier",
                f"seconds      {steps}",
            )
        )

    def _truth(self) -> Iterator[str]:
        if self.precision is None or self.recall is None:
            return
        yield (
            f"  against    {self.planted} planted copies: precision {self.precision:.2f}, "
            f"recall {self.recall:.2f}"
        )
        missed = sorted((share, kind) for kind, share in self.recall_by_kind.items())[:4]
        yield "  hardest    " + ", ".join(f"{kind} {share:.2f}" for share, kind in missed)


@dataclass(frozen=True, slots=True)
class Score:
    """How found groups compare with planted copies; each number in [0, 1], None if undefined."""

    precision: float | None
    recall: float | None
    recall_by_kind: Mapping[str, float]


def score_duplicates(found: DuplicateReport, pictures: Sequence[Picture]) -> Score:
    """Compare groups with what was planted.

    Precision: of the pairs of a keeper and one of its copies, the share that shows the same source.
    Recall: of the planted copies, the share whose group also holds the original they were made of.
    """
    truth = {picture.path: picture for picture in pictures}
    right, pairs, landed = 0, 0, set()
    for group in found.groups:
        keeper, copies = truth[group.path], [truth[copy.path] for copy in group.copies]
        pairs += len(copies)
        right += sum(copy.source_group == keeper.source_group for copy in copies)
        originals = {p.source_group for p in (keeper, *copies) if p.copy_kind == ORIGINAL}
        landed |= {p.path for p in (keeper, *copies) if p.source_group in originals}
    planted = [picture for picture in pictures if picture.copy_kind != ORIGINAL]
    kinds = Counter(picture.copy_kind for picture in planted)
    hits = Counter(picture.copy_kind for picture in planted if picture.path in landed)
    return Score(
        precision=right / pairs if pairs else None,
        recall=hits.total() / len(planted) if planted else None,
        recall_by_kind={kind: hits[kind] / n for kind, n in sorted(kinds.items())},
    )


def _called(model: str) -> str:
    return f"{model} (self-trained demo weights)" if model == DEMO_NAME else model
