"""Saved runs: what a verb was asked, what it found, and how to undo it.

A run owns the fields it wrote and the saved view of the same name. Deleting the run, here or by
FiftyOne's own ``dataset.delete_run(key)``, deletes them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import fiftyone as fo
import fiftyone.core.runs as fors
from fiftyone.core.view import DatasetView

from fiftyone_isoclip.dataset.fields import check_key, dataset_of, declare_field
from fiftyone_isoclip.dataset.locks import hold_record, one_writer
from fiftyone_isoclip.dataset.run_changes import (
    change_run,
    clear_run,
    erase_run,
    forget_dead,
    forget_run,
    forget_strays,
    rename_parts,
    renamed,
    replaced,
    save_view,
)
from fiftyone_isoclip.dataset.sources import sum_sources
from fiftyone_isoclip.dataset.writing import Values, insist, write_all
from fiftyone_isoclip.errors import DatasetError


class IsoClipRunConfig(fors.RunConfig):
    """What FiftyOne keeps of a run of this package, as JSON values."""


class IsoClipRun(fors.Run):
    """A run that takes its fields and its saved view along when it is deleted."""

    def get_fields(self, samples: Any, key: str) -> list[str]:
        """The fields the run wrote."""
        return [name for name in self.config.fields if samples.has_field(name)]

    def cleanup(self, samples: Any, key: str) -> None:
        """Delete what the run wrote."""
        clear_run(samples._root_dataset, key, self.config)


@dataclass(frozen=True, slots=True)
class SavedRun:
    """One use of a verb on a dataset.

    Attributes:
        key: the name of the run, its saved view and the beginning of its fields.
        method: the verb, ``duplicates`` or ``clusters``.
        parameters: what was asked for.
        checkpoint: the name of the checkpoint, ``fingerprint`` its weights, ``band`` what was kept.
        counts: what was found.
        details: more of what was found, as JSON values: a few kilobytes, never one entry a sample.
        fields: the fields it wrote.
        sources: checksums of what its vectors were made from (`sources.sum_sources`).
        time: when it began (UTC).
        complete: False if it did not end, or a change of it did not: find it again or delete it.
    """

    key: str
    method: str
    parameters: Mapping[str, Any]
    checkpoint: str
    fingerprint: str
    band: str
    fields: tuple[str, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[int, ...] = ()
    time: datetime | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one field by sample id; samples that are not named have none.

    ``of`` is the type of the entries of a list, without which the App cannot filter by them.
    ``indexed`` lets the database find samples by it without looking at all.
    """

    kind: type[fo.Field]
    values: Mapping[str, Any]
    of: type[fo.Field] | None = None
    indexed: bool = False


def list_runs(dataset: fo.Dataset) -> list[SavedRun]:
    """The runs of this package on a dataset, the latest first."""
    infos = {key: dataset.get_run_info(key) for key in dataset_of(dataset).list_runs()}
    ours = {k: info for k, info in infos.items() if isinstance(info.config, IsoClipRunConfig)}
    runs = [_saved(key, info) for key, info in ours.items()]
    return sorted(runs, key=lambda run: run.time or datetime.min, reverse=True)


def load_run(dataset: fo.Dataset, key: str, method: str | None = None) -> SavedRun:
    """One run, by its key; if a method is named, to use what it wrote.

    Raises:
        DatasetError: there is no such run of this package, or it is of another method, or what it
            wrote is not whole.
    """
    runs = {run.key: run for run in list_runs(dataset)}
    run = runs.get(key)
    if run is None or method not in (None, run.method):
        kind = "" if method is None else f"{method} "
        there = ", ".join(f"{run.key} ({run.method})" for run in runs.values()) or "none"
        raise DatasetError(
            f"dataset {dataset.name!r} has no {kind}run {key!r}; its runs of this package: {there}"
        )
    if method is not None and not run.complete:
        raise DatasetError(
            f"run {key!r} of dataset {dataset.name!r} was broken off, and what it wrote is not "
            "whole; find it again with rerun() or the verb that made it, or delete_run() it"
        )
    return run


@one_writer("key")
def delete_run(dataset: fo.Dataset, key: str) -> None:
    """Delete a run, its fields and its saved view: the undo of ``find_duplicates`` and the like.

    Raises:
        DatasetError: there is no such run of this package.
    """
    load_run(dataset, key)
    erase_run(dataset, key)


@one_writer("key")
def update_run(dataset: fo.Dataset, key: str, **changes: Any) -> None:
    """Replace what is remembered of a run: ``counts``, ``details``, ``parameters``, ``complete``.

    Raises:
        DatasetError: there is no such run of this package.
    """
    load_run(dataset, key)
    insist(dataset, lambda: change_run(dataset, key, **changes))


@one_writer("key")
@one_writer("new_key")
def rename_run(dataset: fo.Dataset, key: str, new_key: str) -> None:
    """Rename a run with its fields and its saved view.

    Raises:
        DatasetError: there is no such run, or something else has the new name.
    """
    run = load_run(dataset, key)
    if not run.complete:
        load_run(dataset, key, run.method)  # says why not
    view = dataset.get_run_info(key).config.view
    # FiftyOne's own rename leaves the names of fields and view, which begin with the first key.
    names = {name: renamed(name, view, new_key) for name in run.fields}
    check_free(dataset, new_key, run.method, tuple(names.values()))
    if dataset.has_run(new_key):
        raise DatasetError(f"a run {new_key!r} exists already; choose another name or delete it")
    stages = None
    if dataset.has_saved_view(view):
        stages = replaced(dataset.load_saved_view(view)._serialize(), names)
    indexed = [old for old in names if old in dataset.list_indexes()]
    # Until all is renamed the run owns both the old names and the new ones, and is not whole.
    both = [*run.fields, *names.values()]
    insist(dataset, lambda: change_run(dataset, key, complete=False, fields=both))
    with hold_record(dataset):
        insist(dataset, lambda: rename_parts(dataset, key, new_key, names, indexed))
    if stages is not None:
        built = DatasetView._build(dataset, stages)
        insist(dataset, lambda: save_view(dataset, new_key, built, run.method))
    insist(dataset, lambda: change_run(dataset, new_key, complete=True, fields=[*names.values()]))


def check_free(dataset: fo.Dataset, key: str, method: str, fields: tuple[str, ...]) -> None:
    """Make sure that a run may use a key: nothing under that name belongs to anybody else.

    Raises:
        DatasetError: the key is malformed, or a run, field or saved view of that name is not ours.
    """
    check_key(key)
    ours: tuple[str, ...] = ()
    if dataset.has_run(key):
        config = dataset.get_run_info(key).config
        if not isinstance(config, IsoClipRunConfig) or config.method != method:
            raise DatasetError(
                f"key {key!r} is taken by a run of {config.method or 'another kind'}; "
                "choose another key or delete that run"
            )
        ours = (*config.fields, config.view)
    taken = [f"field {name!r}" for name in fields if dataset.has_field(name) and name not in ours]
    if dataset.has_saved_view(key) and key not in ours:
        taken.append(f"saved view {key!r}")
    if taken:
        raise DatasetError(
            f"{' and '.join(taken)} would be overwritten and no run {key!r} made it; "
            "choose another key or delete it"
        )


def save_run(
    samples: Any, run: SavedRun, columns: Mapping[str, Column], view: Callable[[], Any]
) -> None:
    """Replace the run of this key, its fields and its saved view.

    Args:
        samples: what the run was about.
        run: what to remember; its ``fields``, ``sources``, ``time`` and ``complete`` are set here.
        columns: the fields to write, by name.
        view: makes the view to save, once the fields are there.
    """
    dataset = dataset_of(samples)
    check_free(dataset, run.key, run.method, tuple(columns))
    id_ = dataset._doc.id
    try:
        if dataset.has_run(run.key):
            erase_run(dataset, run.key)
        insist(dataset, lambda: _write(samples, run, columns, view))
        insist(dataset, lambda: change_run(dataset, run.key, complete=True))
    except DatasetError:
        forget_dead(id_)
        raise


def _write(
    samples: Any, run: SavedRun, columns: Mapping[str, Column], view: Callable[[], Any]
) -> None:
    dataset = dataset_of(samples)
    with hold_record(dataset):
        forget_run(dataset, run.key)  # what an earlier attempt may have left of it
    forget_strays(dataset, run.key, tuple(columns))
    config = IsoClipRunConfig(
        method=run.method,
        parameters=dict(run.parameters),
        checkpoint=run.checkpoint,
        fingerprint=run.fingerprint,
        band=run.band,
        counts=dict(run.counts),
        details=dict(run.details),
        sources=sum_sources(samples, run.parameters["field"]) if "field" in run.parameters else [],
        fields=list(columns),
        view=run.key,
        complete=False,
    )
    # Registered before the first field is written: whatever is left of a killed run has an owner.
    with hold_record(dataset):
        samples.register_run(run.key, config)
    for name, column in columns.items():
        declare_field(dataset, name, column.kind, column.of)
        write_all(dataset, Values(name, column.values, column.kind))
        if column.indexed:
            dataset.create_index(name)  # goes away with the field
    save_view(dataset, run.key, view(), run.method)


def _saved(key: str, info: fors.RunInfo) -> SavedRun:
    config = info.config
    return SavedRun(
        key=key,
        method=config.method,
        parameters=config.parameters,
        checkpoint=config.checkpoint,
        fingerprint=config.fingerprint,
        band=config.band,
        fields=tuple(config.fields),
        counts=config.counts,
        details=getattr(config, "details", {}),
        sources=tuple(getattr(config, "sources", ())),
        time=info.timestamp,
        complete=config.complete,
    )
