"""Values written to many samples or labels at once, again if the database was away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import fiftyone as fo
from pymongo.errors import ConnectionFailure

from fiftyone_isoclip.dataset.fields import check_alive
from fiftyone_isoclip.errors import DatasetError

T = TypeVar("T")

PATIENCE_SECONDS = 180.0
"""How long a write is repeated while the database cannot be reached."""


def write_values(dataset: fo.Dataset, path: str, values: Mapping[str, Any]) -> None:
    """Set a field of the samples with these ids; None clears it.

    Raises:
        DatasetError: the dataset is gone, or the database stays away.
    """
    if values:
        insist(
            dataset,
            lambda: dataset.set_values(path, dict(values), key_field="id", expand_schema=False),
        )


def write_label_values(
    dataset: fo.Dataset, path: str, values: Mapping[str, Any], sample_ids: Mapping[str, str]
) -> None:
    """Set a field of the labels with these ids; ``sample_ids`` tells the sample of each.

    Raises:
        DatasetError: the dataset is gone, or the database stays away.
    """
    if values:
        entries = [
            {"sample_id": sample_ids[label], "label_id": label, "value": value}
            for label, value in values.items()
        ]
        insist(dataset, lambda: dataset.set_label_values(path, entries))


def insist(dataset: fo.Dataset, action: Callable[[], T]) -> T:
    """Repeat an idempotent action on the database until it succeeds.

    Raises:
        DatasetError: the dataset is gone, or the database stays away.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            try:
                return action()
            finally:
                check_alive(dataset)  # afterwards, because it may go away meanwhile
        except ConnectionFailure as error:
            if time.monotonic() > deadline:
                raise DatasetError(
                    f"the database has been away for {PATIENCE_SECONDS:.0f} s while "
                    f"{dataset.name!r} was written: {error}; what was saved before is kept, "
                    "run the same again once it is back"
                ) from error
            time.sleep(1)
