"""Runs that were scheduled in the App, as FiftyOne's queue holds them, and what ends them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import fiftyone as fo
from bson import ObjectId
from fiftyone.factory import DelegatedOperationPagingParams
from fiftyone.factory.repo_factory import RepositoryFactory
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionResult, ExecutionRunState

from fiftyone_isoclip.app.operator import PLUGIN
from fiftyone_isoclip.app.told import without_paths
from fiftyone_isoclip.app.worker import CANCELLED
from fiftyone_isoclip.errors import IsoClipError

SHOWN_ENDED = 10

SILENT_SECONDS = 60.0
"""After how long a worker that said nothing is taken for dead; it speaks every `BEAT_SECONDS`."""

State = Literal["queued", "running", "silent", "completed", "failed", "cancelled"]

_ENDED = [ExecutionRunState.COMPLETED, ExecutionRunState.FAILED]

_BEFORE = re.compile(r"^[\w.]+: (?:Validation error\. Path: \S*\. Reason: )?")
"""What FiftyOne puts before a sentence of ours: the error's class, the input that is refused."""


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """One run of the queue; ``told`` is the step it is at, or why it failed.

    A run is ``silent`` if a worker began it and has said nothing for `SILENT_SECONDS`. ``since`` is
    when it was queued, begun, heard of last (if it is silent) or ended, in UTC; ``share`` of it is
    done, in [0, 1], or None if that is not known; ``result`` is what the operator returned.
    """

    id: str
    operator: str
    label: str
    state: State
    since: datetime
    told: str
    share: float | None
    result: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ("completed", "failed", "cancelled")


def list_scheduled(dataset: fo.Dataset) -> list[ScheduledRun]:
    """The runs of this package's operators on a dataset that were not put away, latest first.

    All that have not ended, and the latest `SHOWN_ENDED` of those that have.
    """
    queue, ours = DelegatedOperationService(), _ours(dataset)
    going_on = queue.list_operations(
        **ours, run_state={"$nin": _ENDED}, paging=DelegatedOperationPagingParams(limit=0)
    )
    ended = queue.list_operations(
        **ours, run_state={"$in": _ENDED}, paging=DelegatedOperationPagingParams(limit=SHOWN_ENDED)
    )
    # One that ends between the two is in both.
    found = {operation.id: operation for operation in [*going_on, *ended]}
    return [_read(operation) for operation in sorted(found.values(), key=_queued, reverse=True)]


def count_ended(dataset: fo.Dataset) -> int:
    """How many of them have ended, also those that `list_scheduled` leaves out."""
    asked = {**_ours(dataset), "run_state": {"$in": _ENDED}, "archived": {"$ne": True}}
    return int(DelegatedOperationService().count(filters=asked))


def find_scheduled(dataset: fo.Dataset, id_: str) -> ScheduledRun:
    """One of them, by its id.

    Raises:
        IsoClipError: there is none of this id, or it is of another dataset or plugin.
    """
    found = None
    if ObjectId.is_valid(id_):
        found = DelegatedOperationService().list_operations(_id=ObjectId(id_), **_ours(dataset))
    if not found:
        raise IsoClipError(f"dataset {dataset.name!r} has no scheduled run {id_!r}")
    return _read(found[0])


def cancel(dataset: fo.Dataset, id_: str) -> None:
    """Take a run out of the queue, or let its worker end it; what it stored stays.

    Raises:
        IsoClipError: there is no such run, or it has ended.
    """
    # Its worker may begin or end it meanwhile.
    while not (run := find_scheduled(dataset, id_)).ended:
        if _fail(run, CANCELLED):
            return
    raise IsoClipError(f"{run.label} is {run.state} already")


def take_up(dataset: fo.Dataset, id_: str) -> None:
    """Queue a run again that failed, was cancelled, or whose worker is gone.

    Raises:
        IsoClipError: there is no such run, or it waits, goes on or is completed.
    """
    run = find_scheduled(dataset, id_)
    if run.state == "silent":
        _fail(run, "its worker was gone, and it was queued again")
    elif run.state not in ("failed", "cancelled"):
        raise IsoClipError(f"{run.label} is {run.state}: only what failed is taken up again")
    if not _archive_failed(ObjectId(id_)):
        raise IsoClipError(f"{run.label} was taken up again or changed just now: look again")
    queue = DelegatedOperationService()
    try:
        queue.rerun_operation(ObjectId(id_))
    except Exception:
        queue.unarchive_operation(ObjectId(id_))
        raise


def put_away(dataset: fo.Dataset, id_: str) -> None:
    """List a run no more that has ended; FiftyOne keeps it in its archive.

    Raises:
        IsoClipError: there is no such run, or it has not ended.
    """
    run = find_scheduled(dataset, id_)
    if not run.ended:
        raise IsoClipError(f"{run.label} is {run.state}: cancel it first")
    DelegatedOperationService().archive_operation(ObjectId(id_))


def _archive_failed(id_: ObjectId) -> bool:
    """Archive a failed run; -> whether it was this call that did."""
    # FiftyOne's own `archive_operation` does not tell who came first.
    runs = RepositoryFactory.delegated_operation_repo()._collection
    failed = {"_id": id_, "run_state": ExecutionRunState.FAILED, "archived": {"$ne": True}}
    return bool(runs.update_one(failed, {"$set": {"archived": True}}).modified_count)


def _fail(run: ScheduledRun, why: str) -> bool:
    """Mark a run as failed; -> False if it is no longer in the state it was read in."""
    held = ExecutionRunState.RUNNING if run.state == "silent" else run.state
    told = ExecutionResult(error=why)
    failed = DelegatedOperationService().set_failed(ObjectId(run.id), told, required_state=held)
    return failed is not None


def _ours(dataset: fo.Dataset) -> dict[str, Any]:
    return {"operator": {"$regex": f"^{PLUGIN}/"}, "dataset_id": dataset._doc.id}


def _read(operation: Any) -> ScheduledRun:
    state: State = operation.run_state
    status, result = operation.status, operation.result
    if state == "running" and _is_silent(operation):
        state = "silent"
    told = (status.label if status else None) or ""
    if state == "failed":
        told = _sentence(result and result.error)
        state = "cancelled" if told == CANCELLED else state
    return ScheduledRun(
        id=str(operation.id),
        operator=str(operation.operator),
        label=str(operation.label),
        state=state,
        since=_since(operation, state),
        told=told,
        share=status.progress if status else None,
        result=result.result if result and state == "completed" else None,
    )


def _since(operation: Any, state: State) -> datetime:
    ended = operation.completed_at or operation.failed_at
    begun = _heard(operation) if state == "silent" else operation.started_at
    since: datetime = ended or begun or operation.queued_at or _made(operation)
    return since


def _is_silent(operation: Any) -> bool:
    """Whether its worker, which `attend` makes speak, has said nothing for long."""
    # Beware: FiftyOne writes the time in UTC and does not say so.
    return datetime.utcnow() - _heard(operation) > timedelta(seconds=SILENT_SECONDS)


def _heard(operation: Any) -> datetime:
    """When it was heard of last; other versions of FiftyOne write none of these times."""
    heard: datetime = operation.updated_at or operation.started_at or _made(operation)
    return heard


def _queued(operation: Any) -> tuple[datetime, ObjectId]:
    # The database keeps milliseconds: what was queued in the same one is told apart by its id.
    return operation.queued_at or _made(operation), operation.id


def _made(operation: Any) -> datetime:
    made: datetime = operation.id.generation_time.replace(tzinfo=None)
    return made


def _sentence(error: str | None) -> str:
    """What went wrong, of the traceback that FiftyOne keeps."""
    if not error:
        return "it was marked as failed"
    last = error.strip().splitlines()[-1]
    return without_paths(_BEFORE.sub("", last), {})
