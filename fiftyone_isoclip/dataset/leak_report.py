"""Leaks between splits, as they are reported and as they lie in the fields of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
from fiftyone import ViewExpression
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.leak_pairs import LeakMatrix, LeakPair, LeakSide, listed
from fiftyone_isoclip.dataset.runs import SavedRun, load_run

METHOD = "leaks"
DEFAULT_KEY = "leaks"
LEAK_TAG = "leak"
"""The tag that the App gives to samples that should go."""

_PARTS = (
    "split", "with", "partner", "partner_path", "similarity", "partners", "partner_splits",
    "partner_similarities", "drop",
)  # fmt: skip


def field_names(key: str) -> dict[str, str]:
    """The fields of a run by what they hold."""
    return {part: f"{key}_{part}" for part in _PARTS}


@dataclass(frozen=True, slots=True)
class LeakReport:
    """The pairs of images in different splits that a search found; nothing was removed.

    Attributes:
        splits: their names; ``matrix`` counts what two of them have in common.
        others: the splits that are other datasets, with the names of those.
        n_drop: samples without which no pair is left.
        n_both: samples that are themselves in two splits.
        n_skipped: samples in a split that could not be compared; ``skipped`` gives the reasons, and
            is empty after loading a saved run. ``n_skipped_elsewhere`` are those of other datasets.
        n_unsplit: samples in no split, which were not compared.
        tagged: whether the splits are tags, so that a sample can have two.
    """

    dataset: fo.Dataset = field(repr=False)
    key: str
    matrix: LeakMatrix
    others: Mapping[str, str]
    n_compared: int
    n_leaked: int
    n_drop: int
    n_both: int
    n_skipped: int
    n_skipped_elsewhere: int
    n_unsplit: int
    similarity: float
    band: str
    tagged: bool
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return self.matrix.splits

    @property
    def n_pairs(self) -> int:
        """Pairs of images in different splits."""
        return self.matrix.n_pairs

    @property
    def view(self) -> Any:
        """The samples that leak into another split, those most similar to their partner first."""
        return leaks_view(self.dataset, self.key)

    @property
    def drop_view(self) -> Any:
        """The samples that should go."""
        return self.dataset.match(F(self._names["drop"]) == True)  # noqa: E712

    @property
    def both_view(self) -> Any:
        """The samples that still have the tags of two splits."""
        if not self.tagged:
            return self.dataset.limit(0)
        inside = [name for name in self.splits if name not in self.others]
        return self.dataset.match(F("tags").intersection(inside).length() > 1)

    def cell_view(self, one: str, other: str) -> Any:
        """The samples of either split that have a partner in the other one."""
        found = {"$or": [self._leaking(one, other), self._leaking(other, one)]}
        return _nearest_first(self.dataset.match(found), self._names["similarity"])

    def pairs(self, one: str, other: str, limit: int = 100, skip: int = 0) -> list[LeakPair]:
        """The images of the one split that leak into the other, each with its nearest there.

        The most similar come first. Of a split that is another dataset, the images of the split
        that leaks into it are listed. Pairs whose images were deleted since are left out.

        Raises:
            DatasetError: there is no such split.
        """
        self.matrix.pairs_of(one, other)
        if one in self.others:
            turned = self.pairs(other, one, limit, skip) if other not in self.others else []
            return [LeakPair(pair.other, pair.one, pair.similarity) for pair in turned]
        names = self._names
        nearest = _first_of(names["partner_similarities"], names["partner_splits"], other)
        held = _nearest_first(self.dataset.match(self._leaking(one, other)), nearest)
        paths = ["id", "filepath", *(names[part] for part in ("drop", *_LISTS))]
        rows = list(zip(*held.skip(skip).limit(limit).values(paths), strict=True))
        mates = self._mates(other, [id_ for row in rows for id_ in row[3]])
        return [pair for row in rows if (pair := _pair(row, one, other, mates)) is not None]

    def __str__(self) -> str:
        more = f"; {self.n_both} are in two splits themselves" if self.n_both else ""
        return (
            f"{self.n_leaked} of {self.n_compared} samples leak between {listed(self.splits)}: "
            f"{self.n_pairs} pairs at similarity {self.similarity:g}, band {self.band}; "
            f"{self.n_drop} should go{more}; {self.n_unsplit} are in no split, "
            f"{self.n_skipped + self.n_skipped_elsewhere} could not be compared"
        )

    @property
    def _names(self) -> dict[str, str]:
        return field_names(self.key)

    def _leaking(self, one: str, other: str) -> dict[str, str]:
        return {self._names["split"]: one, self._names["partner_splits"]: other}

    def _mates(self, split: str, ids: Sequence[str]) -> dict[str, LeakSide]:
        """The samples of a split among these ids that are still there."""
        if split not in self.others:
            paths = ["id", "filepath", self._names["drop"]]
            rows = zip(*self.dataset.select(list(set(ids))).values(paths), strict=True)
            return {id_: LeakSide(id_, path, split, bool(drop)) for id_, path, drop in rows}
        if not fo.dataset_exists(self.others[split]):
            return {}
        other = fo.load_dataset(self.others[split]).select(list(set(ids)))
        found = zip(*other.values(["id", "filepath"]), strict=True)
        return {id_: LeakSide(id_, path, split, drop=False) for id_, path in found}


_LISTS = ("partners", "partner_splits", "partner_similarities")


def leaks_view(dataset: fo.Dataset, key: str) -> Any:
    """The samples of a run, those most similar to their partner first."""
    names = field_names(key)
    return _nearest_first(dataset.match(F(names["split"]).exists()), names["similarity"])


def load_leaks(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> LeakReport:
    """The report of an earlier search; its counts are those of that time.

    Raises:
        DatasetError: there is no such run.
    """
    return report_of(dataset, load_run(dataset_of(dataset), key, METHOD))


def report_of(
    dataset: fo.Dataset, run: SavedRun, skipped: Mapping[str, str] | None = None
) -> LeakReport:
    """The report of a run."""
    tables = (tuple(map(tuple, run.details[name])) for name in ("pair_counts", "image_counts"))
    names = ("compared", "leaked", "drop", "both", "unsplit", "skipped_elsewhere")
    return LeakReport(
        dataset=dataset,
        key=run.key,
        matrix=LeakMatrix(tuple(run.details["splits"]), *tables),
        others=dict(run.parameters["other"] or {}),
        similarity=float(run.parameters["similarity"]),
        band=run.band,
        tagged=not isinstance(run.parameters["splits"], str),
        skipped=skipped or {},
        n_skipped=int(run.counts["skipped"] - run.counts["unsplit"]),
        **{f"n_{name}": int(run.counts[name]) for name in names},
    )


def _nearest_first(view: Any, similarity: str | ViewExpression) -> Any:
    # Ids make the order of equal ones the same each time, so that pages fit together.
    return view.sort_by([(similarity, -1), ("id", 1)])


def _pair(row: Any, one: str, other: str, mates: Mapping[str, LeakSide]) -> LeakPair | None:
    id_, path, drop, ids, splits, similarities = row
    for mate, split, similarity in zip(ids, splits, similarities, strict=True):
        if split == other and mate in mates:
            return LeakPair(LeakSide(id_, path, one, bool(drop)), mates[mate], similarity)
    return None


def _first_of(values: str, splits: str, split: str) -> ViewExpression:
    """The first of the values beside which this split stands."""
    place = {"$indexOfArray": [f"${splits}", split]}
    return ViewExpression({"$arrayElemAt": [f"${values}", place]})
