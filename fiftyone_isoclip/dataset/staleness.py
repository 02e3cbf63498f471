"""Whether what a run found still holds: samples that came, went or were embedded anew since."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.centres import read_centre, seal
from fiftyone_isoclip.dataset.fields import dataset_of, read_origin
from fiftyone_isoclip.dataset.runs import SavedRun, load_run
from fiftyone_isoclip.dataset.sources import sum_sources
from fiftyone_isoclip.dataset.targets import list_changed

_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Staleness:
    """What happened since a run to the samples it was about; false if nothing did.

    Attributes:
        added: samples that are there now and were not.
        removed: samples that were there and are not.
        changed: vectors made, made anew or lost: at least so many, and less is known of them where
            samples came or went, too. All of them, if they are compared from another centre.
        files: images whose file has changed since they were embedded; None if nobody looked.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    files: int | None = None

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.files)

    def __str__(self) -> str:
        parts = [
            f"{_count(self.added, 'image')} added" if self.added else "",
            f"{_count(self.removed, 'image')} removed" if self.removed else "",
            f"{_count(self.changed, 'embedding')} or more made anew" if self.changed else "",
            f"{_count(self.files, 'file')} changed" if self.files else "",
        ]
        return ", ".join(part for part in parts if part) or "nothing changed"


def find_staleness(dataset: fo.Dataset, run: SavedRun, *, thorough: bool = False) -> Staleness:
    """Compare the dataset with what a run was about, which is its view as it is now.

    The quick way asks the database alone, and remembers its answer until the dataset changes. It
    finds samples made after the run, a number of samples other than the run's, and vectors whose
    source is another one than at the run. It does not find: a sample that left the run's view for
    each that entered it, tags or labels that the run went by, another dataset in which leaks were
    looked for, vectors without a known source (registered by `upgrade`) or written by something
    else than `embed`, and image files that changed, also since a search for exact duplicates.

    Args:
        dataset: the run's dataset.
        run: what `list_runs` or `load_run` returned.
        thorough: compare the image files, too, by size and time with what was embedded. A file
            that cannot be found counts as unchanged.

    Raises:
        DatasetError: the run was deleted.
    """
    dataset = dataset_of(dataset)
    load_run(dataset, run.key, run.method)
    found = _ask_database(dataset.name, run.key, (run.time, *version_of(dataset)))
    field = run.parameters.get("field")
    if not thorough or not field or not dataset.has_field(field):
        return found
    origin = read_origin(dataset, field)
    if origin is None:
        return found
    samples = dataset.load_run_view(run.key)
    return replace(found, files=len(list_changed(samples, field, origin.fingerprint)))


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def version_of(dataset: fo.Dataset) -> tuple[Any, ...]:
    """What changes whenever a sample or the dataset does, at the cost of a look into an index."""
    samples = dataset._sample_collection
    latest = samples.find_one({}, {"last_modified_at": 1}, sort=[("last_modified_at", -1)])
    n = samples.estimated_document_count()
    return n, (latest or {}).get("last_modified_at"), dataset.last_modified_at


@lru_cache(maxsize=_REMEMBERED)
def _ask_database(name: str, key: str, version: tuple[Any, ...]) -> Staleness:
    dataset = fo.load_dataset(name)
    run = load_run(dataset, key)
    samples = dataset.load_run_view(key)
    before = int(run.counts.get("compared", 0) + run.counts.get("skipped", 0))
    now = samples.count()
    newer = samples.match(F("created_at") > run.time).count()
    added = max(newer, now - before)
    removed = before + added - now
    field = run.parameters.get("field")
    changed = 0 if field is None else _count_changed(dataset, samples, run, field)
    # A sample that came or went also makes a sum another one.
    return Staleness(added, removed, max(0, changed - removed - added))


def _count_changed(dataset: fo.Dataset, samples: Any, run: SavedRun, field: str) -> int:
    origin = read_origin(dataset, field)
    if origin is None:
        return int(run.counts.get("compared", 0))
    # A run is of the weights, or of these and the centre that it compared from.
    if run.fingerprint not in (origin.fingerprint, seal(origin, read_centre(dataset, field))):
        return int(run.counts.get("compared", 0))
    if not run.sources:
        return 0
    whole = isinstance(samples, fo.Dataset)
    now = current_sums(dataset, field) if whole else sum_sources(samples, field)
    return sum(one != other for one, other in zip(run.sources, now, strict=True))


def current_sums(dataset: fo.Dataset, field: str) -> tuple[int, ...]:
    """What `sum_sources` says of a whole dataset, worked out again once anything has changed."""
    return _sum_all(dataset.name, field, version_of(dataset))


@lru_cache(maxsize=_REMEMBERED)
def _sum_all(name: str, field: str, version: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(sum_sources(fo.load_dataset(name), field))
