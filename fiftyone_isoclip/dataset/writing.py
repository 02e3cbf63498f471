"""Values written to many samples or labels at once, again if the database was away.

A database that crashes loses what it confirmed in its last 0.1 s, and pymongo connects to the next
one without a word. So what was written counts once the journal has it, in one life of the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar

import fiftyone as fo
from bson import ObjectId
from pymongo import WriteConcern
from pymongo.errors import ConnectionFailure, OperationFailure

from fiftyone_isoclip.dataset.fields import check_alive, look_anew, stored_kind
from fiftyone_isoclip.errors import DatasetError

T = TypeVar("T")

PATIENCE_SECONDS = 180.0
"""How long a write waits for a database that cannot be reached."""

_MOST_TRIES = 10
"""How often a write is begun anew; beyond it is the write that crashes the database."""

_NO_JOURNAL = 2


@dataclass(frozen=True, slots=True)
class Values:
    """What a field of samples is to hold, by their ids; None clears it.

    ``owners`` are the samples of labels whose ids these are. ``kind`` is the type the field was
    given; None takes it from the dataset.
    """

    path: str
    by_id: Mapping[str, Any]
    kind: type[fo.Field] | None = None
    owners: Mapping[str, str] | None = None


def write_values(dataset: fo.Dataset, path: str, values: Mapping[str, Any]) -> None:
    """Set a field of the samples with these ids; None clears it.

    Raises:
        DatasetError: the dataset or the field is gone, or the database stays away.
    """
    write_all(dataset, Values(path, values))


def write_all(dataset: fo.Dataset, *parts: Values, left: Event | None = None) -> None:
    """Set several fields, in this order: if the database crashes, all of them once more.

    Once ``left`` is set nobody waits for a database that is away.

    Raises:
        DatasetError: the dataset or a field is gone, or the database stays away.
    """
    due = [values for values in parts if values.by_id]

    def write() -> None:
        for values in due:
            _write(dataset, values)

    if due:
        insist(dataset, write, left)


def insist(dataset: fo.Dataset, action: Callable[[], T], left: Event | None = None) -> T:
    """Repeat an idempotent action on the database until its whole effect is sure to last.

    Raises:
        DatasetError: the dataset is gone, or the database stays away.
    """
    for attempt in range(_MOST_TRIES):
        try:
            life = _life()
            if attempt:
                look_anew(dataset)
            try:
                result = action()
            except Exception as error:
                if isinstance(error, ConnectionFailure) or _life() == life:
                    raise
                continue  # a step of it missed what the database forgot of the steps before
            finally:
                check_alive(dataset)  # afterwards, because it may go away meanwhile
            _flush()
            if _life() == life:
                return result
        except ConnectionFailure as error:
            _wait(dataset, error, left or Event())
    raise DatasetError(
        f"the database went away {_MOST_TRIES} times while {dataset.name!r} was written; its log "
        "says why. What was saved before is kept, run the same again once it is mended"
    )


def _write(dataset: fo.Dataset, values: Values) -> None:
    """Write values, and take them back if their field was deleted or made another meanwhile."""
    field = dataset.get_field(values.path)
    kind = values.kind or type(field)
    try:
        if isinstance(field, kind):
            _set(dataset, values)
    finally:
        found = stored_kind(dataset, values.path)
        if found != f"{kind.__module__}.{kind.__name__}":
            _unset(dataset, values)
            became = "deleted" if found is None else f"made a {found.rsplit('.', 1)[-1]}"
            raise DatasetError(
                f"field {values.path!r} of dataset {dataset.name!r} was {became} while it was "
                "written, and nothing was left in it; run the same again, or use another field"
            )


def _set(dataset: fo.Dataset, values: Values) -> None:
    if values.owners is None:
        dataset.set_values(values.path, dict(values.by_id), key_field="id", expand_schema=False)
        return
    entries = [
        {"sample_id": values.owners[label], "label_id": label, "value": value}
        for label, value in values.by_id.items()
    ]
    dataset.set_label_values(values.path, entries)


def _unset(dataset: fo.Dataset, values: Values) -> None:
    samples, path = values.by_id, values.path
    held: dict[str, Any] = {}
    if values.owners is not None:
        samples = dict.fromkeys(values.owners[label] for label in values.by_id)
        labels, leaf = path.rsplit(".", 1)
        path, held = f"{labels}.$[].{leaf}", {labels: {"$type": "array"}}
    chosen = {"_id": {"$in": [ObjectId(id_) for id_ in samples]}, **held}
    dataset._sample_collection.update_many(chosen, {"$unset": {path: ""}})


def _life() -> Any:
    """Another one after each start of the database; always None where it does not tell."""
    told = fo.core.odm.get_db_conn().command("hello")
    return told.get("topologyVersion", {}).get("processId")


def _flush() -> None:
    """Have the journal hold all that was written so far, by a write that finds nothing to do."""
    connection = fo.core.odm.get_db_conn()
    datasets = connection.get_collection("datasets", write_concern=WriteConcern(j=True))
    try:
        datasets.update_one({"_id": ObjectId()}, {"$set": {"name": None}})
    except OperationFailure as error:
        if error.code != _NO_JOURNAL:
            raise


def _wait(dataset: fo.Dataset, error: ConnectionFailure, left: Event) -> None:
    """Wait until the database answers.

    Raises:
        DatasetError: it stays away, or nobody waits any more.
    """
    begun = time.monotonic()
    while True:
        left.wait(1)
        try:
            fo.core.odm.get_db_conn().command("ping")
            return
        except ConnectionFailure as again:
            if left.is_set() or time.monotonic() > begun + PATIENCE_SECONDS:
                raise DatasetError(
                    f"the database has been away for {time.monotonic() - begun:.0f} s while "
                    f"{dataset.name!r} was written: {again}; what was saved before is kept, "
                    "run the same again once it is back"
                ) from error
