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

from fiftyone_isoclip.dataset.fields import check_alive, check_key, dataset_of, declare_field
from fiftyone_isoclip.dataset.kept_pairs import drop_pairs
from fiftyone_isoclip.dataset.sources import sum_sources
from fiftyone_isoclip.dataset.writing import write_values
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
        _clean(samples._root_dataset, self.config)


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
        time: when it began (UTC); ``complete`` is False if it did not end.
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
    infos = [dataset.get_run_info(key) for key in dataset_of(dataset).list_runs()]
    runs = [_saved(info) for info in infos if isinstance(info.config, IsoClipRunConfig)]
    return sorted(runs, key=lambda run: run.time or datetime.min, reverse=True)


def load_run(dataset: fo.Dataset, key: str, method: str | None = None) -> SavedRun:
    """One run, by its key.

    Raises:
        DatasetError: there is no such run of this package, or it is of another method.
    """
    runs = {run.key: run for run in list_runs(dataset)}
    run = runs.get(key)
    if run is None or method not in (None, run.method):
        kind = "" if method is None else f"{method} "
        there = ", ".join(f"{run.key} ({run.method})" for run in runs.values()) or "none"
        raise DatasetError(
            f"dataset {dataset.name!r} has no {kind}run {key!r}; its runs of this package: {there}"
        )
    return run


def delete_run(dataset: fo.Dataset, key: str) -> None:
    """Delete a run, its fields and its saved view: the undo of ``find_duplicates`` and the like.

    Raises:
        DatasetError: there is no such run of this package.
    """
    load_run(dataset, key)
    _clean(dataset, dataset.get_run_info(key).config)
    fors.Run.delete_run(dataset, key, cleanup=False)


def update_run(dataset: fo.Dataset, key: str, **changes: Any) -> None:
    """Replace what is remembered of a run: ``counts``, ``details`` or ``parameters``.

    Raises:
        DatasetError: there is no such run of this package.
    """
    load_run(dataset, key)
    config = dataset.get_run_info(key).config
    for name, value in changes.items():
        setattr(config, name, value)
    dataset.update_run_config(key, config)


def rename_run(dataset: fo.Dataset, key: str, new_key: str) -> None:
    """Rename a run with its fields and its saved view.

    Raises:
        DatasetError: there is no such run, or something else has the new name.
    """
    run = load_run(dataset, key)
    config = dataset.get_run_info(key).config
    # FiftyOne's own rename leaves the names of fields and view, which begin with the first key.
    names = {name: _renamed(name, config.view, new_key) for name in run.fields}
    check_free(dataset, new_key, run.method, tuple(names.values()))
    if dataset.has_run(new_key):
        raise DatasetError(f"a run {new_key!r} exists already; choose another name or delete it")
    stages = None
    if dataset.has_saved_view(config.view):
        stages = _replaced(dataset.load_saved_view(config.view)._serialize(), names)
        dataset.delete_saved_view(config.view)
    there = {old: new for old, new in names.items() if dataset.has_field(old)}
    if there:
        indexed = [old for old in there if old in dataset.list_indexes()]
        for old in indexed:
            dataset.drop_index(old)  # it would stay behind under the old name
        dataset.rename_sample_fields(there)
        for old in indexed:
            dataset.create_index(there[old])
    dataset.rename_run(key, new_key)
    config = dataset.get_run_info(new_key).config
    config.fields, config.view = list(names.values()), new_key
    dataset.update_run_config(new_key, config)
    if stages is not None:
        view = DatasetView._build(dataset, stages)
        dataset.save_view(new_key, view, description=_description(run.method))


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
    if dataset.has_run(run.key):
        delete_run(dataset, run.key)
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
    samples.register_run(run.key, config)
    for name, column in columns.items():
        declare_field(dataset, name, column.kind, column.of)
        write_values(dataset, name, column.values)
        if column.indexed:
            dataset.create_index(name)  # goes away with the field
    check_alive(dataset)
    dataset.save_view(run.key, view(), description=_description(run.method))
    config.complete = True
    dataset.update_run_config(run.key, config)


def _description(method: str) -> str:
    return f"made by fiftyone-isoclip: {method}"


def _renamed(name: str, key: str, new_key: str) -> str:
    return new_key + name.removeprefix(key) if name.startswith(key) else name


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """The stages of a view, with other names for fields, also inside expressions (``$name``)."""
    if isinstance(value, dict):
        return {name: _replaced(part, names) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(part, names) for part in value]
    if not isinstance(value, str):
        return value
    plain = value.lstrip("$")
    return value[: len(value) - len(plain)] + names.get(plain, plain)


def _clean(dataset: fo.Dataset, config: IsoClipRunConfig) -> None:
    drop_pairs(dataset, getattr(config, "details", {}).get("pairs"))
    fields = [name for name in config.fields if dataset.has_field(name)]
    if fields:
        dataset.delete_sample_fields(fields)
    if dataset.has_saved_view(config.view):
        dataset.delete_saved_view(config.view)


def _saved(info: fors.RunInfo) -> SavedRun:
    config = info.config
    return SavedRun(
        key=info.key,
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
