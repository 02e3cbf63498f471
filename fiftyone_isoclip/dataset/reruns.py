"""A run brought up to date: its images embedded as they are now, then the same verb asked again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.checkpoints import clip_for
from fiftyone_isoclip.dataset.embeddings import EmbedReport, Progress, embed
from fiftyone_isoclip.dataset.fields import dataset_of, need_origin
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import SavedRun, load_run
from fiftyone_isoclip.dataset.staleness import Staleness, find_staleness
from fiftyone_isoclip.dataset.targets import Fields, list_targets
from fiftyone_isoclip.errors import DatasetError

VERBS: Mapping[str, tuple[str, str]] = {
    "duplicates": ("duplicates", "find_duplicates"),
    "exact duplicates": ("duplicates", "find_exact_duplicates"),
    "clusters": ("clusters", "find_clusters"),
    "leaks": ("leaks", "find_leaks"),
    "disagreements": ("disagreements", "compare_spaces"),
    "comparison": ("comparisons", "compare_with_clip"),
    "thresholds": ("threshold_guide", "guide_threshold"),
    "evaluation": ("evaluation", "evaluate"),
    "tuning": ("tuning", "tune_band"),
}
"""Which function made the runs of a method, and the module of this floor that holds it.

Such a function takes what a run remembers as its ``parameters`` by the same names, and ``key``.
"""


@dataclass(frozen=True, slots=True)
class RerunReport:
    """What was stale, which images were embedded (None: there was nothing to), and the new run."""

    stale: Staleness
    embedded: EmbedReport | None
    run: SavedRun

    def __str__(self) -> str:
        n_embedded = 0 if self.embedded is None else self.embedded.computed
        found = ", ".join(f"{name} {count:g}" for name, count in self.run.counts.items())
        return f"run {self.run.key!r}: {self.stale}; {n_embedded} images embedded; now {found}"


@one_writer("key")
def rerun(dataset: fo.Dataset, key: str, *, progress: Progress = None) -> RerunReport:
    """Bring a run up to date: embed what is new or changed in its view, and find the same again.

    The view is the run's own as it is now: a run on the whole dataset is about all of it, one on
    a view that matches a tag about what has the tag now, one on chosen samples about those that
    are left. What the run wrote is replaced.

    Args:
        dataset: the run's dataset.
        key: the name of the run.
        progress: whether to show a bar while embedding, or a function called with it.

    Raises:
        DatasetError: there is no such run, or its embeddings are gone or of other weights.
        CheckpointError: the field's checkpoint cannot be loaded.
    """
    run = load_run(dataset_of(dataset), key)
    # What a run that was broken off was about is not known.
    stale = find_staleness(dataset, run, thorough=True) if run.complete else Staleness()
    embedded = refresh_embeddings(dataset, run, progress=progress)
    return RerunReport(stale, embedded, find_again(dataset, run))


def refresh_embeddings(
    dataset: fo.Dataset, run: SavedRun, *, progress: Progress = None
) -> EmbedReport | None:
    """Embed what is new or changed in a run's view, with the checkpoint that made the field.

    -> None if the run is about files and not embeddings, if the field holds embeddings of a band,
    which `embed` does not make, or if all is up to date; then no model is loaded.
    """
    field = run.parameters.get("field")
    if field is None:
        return None
    origin = need_origin(dataset, field)
    samples = dataset.load_run_view(run.key)
    if origin.band is not None or not is_due(samples, Fields(field), origin.fingerprint):
        return None
    return embed(samples, clip_for(origin), field, progress=progress)


def find_again(dataset: fo.Dataset, run: SavedRun) -> SavedRun:
    """Ask the verb that made a run for the same again, on the run's view as it is now."""
    verb = _verb(run)
    accepted = inspect.signature(verb).parameters
    options = {name: value for name, value in run.parameters.items() if name in accepted}
    if "band" in accepted:
        options.setdefault("band", run.band)
    verb(dataset.load_run_view(run.key), key=run.key, **options)
    return load_run(dataset, run.key)


def _verb(run: SavedRun) -> Callable[..., object]:
    kind = f"exact {run.method}" if run.parameters.get("exact") else run.method
    if kind not in VERBS:
        raise DatasetError(
            f"run {run.key!r} is of {kind}, and only {', '.join(VERBS)} can be found again"
        )
    module, name = VERBS[kind]
    verb: Callable[..., object] = getattr(import_module(f"fiftyone_isoclip.dataset.{module}"), name)
    return verb


def is_due(samples: Any, fields: Fields, fingerprint: str) -> bool:
    """Whether images, or boxes on them, are new or have changed since they were embedded."""
    targets = list_targets(samples, fields)
    return any(
        target.source is None
        or ((now := target.source_now(fingerprint)) and not target.is_current(now))
        for target in targets
    )
