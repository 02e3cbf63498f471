"""One builder at a time, under a key nobody has: who is at it is told who, where, since when."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import fiftyone as fo
from filelock import FileLock, Timeout

from fiftyone_isoclip.dataset.fields import check_key
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.errors import DatasetError


def check_brain_key(dataset: fo.Dataset, key: str) -> None:
    """Make sure that a brain run can be built under a key.

    Raises:
        DatasetError: the key is malformed, or there is a run of that name.
    """
    check_key(key)
    dataset.reload()  # another process may have finished one
    if dataset.has_brain_run(key):
        raise DatasetError(
            f"dataset {dataset.name!r} has a brain run {key!r} already; choose another key, "
            f"or delete it with dataset.delete_brain_run({key!r})"
        )


@contextmanager
def hold(dataset: fo.Dataset, key: str) -> Iterator[None]:
    """Keep other processes of this machine from building under the same key.

    The operating system frees what a killed process held.

    Raises:
        DatasetError: if another process holds it.
    """
    folder = side_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"{dataset._doc.id}-{key}"
    holder = name.with_suffix(".json")
    try:
        with FileLock(name.with_suffix(".lock"), timeout=0):
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            who = {"process": os.getpid(), "machine": socket.gethostname(), "since": since}
            holder.write_text(json.dumps(who))
            yield
    except Timeout as error:
        who = json.loads(holder.read_text()) if holder.exists() else {}
        raise DatasetError(
            f"{key!r} of dataset {dataset.name!r} is being built by process "
            f"{who.get('process', 'unknown')} on {who.get('machine', 'this machine')} since "
            f"{who.get('since', 'a moment ago')}; wait until it has ended, or choose another key"
        ) from error
