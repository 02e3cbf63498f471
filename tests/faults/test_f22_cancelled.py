"""F22: the App's page is closed while an operator works: it stops within a batch and goes on later.

FiftyOne's server in a process of its own; its tower computes a batch for each line of a file.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_isoclip.dataset import embed, list_runs
from fiftyone_isoclip.dataset.locks import hold
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.mongod import free_port
from tests.pictures import draw_many

FIELD = "clip_embedding"
BATCH_SIZE = 2
N_PICTURES = 24

SERVER = """
import os, runpy, signal, sys, threading, time
from pathlib import Path
from fiftyone_isoclip.app import steps
from fiftyone_isoclip.encoder.clip import Clip
steps.PATIENCE_SECONDS = 1
permits, log, threads = map(Path, sys.argv[1:4])
compute = Clip.image_embeddings
def permitted(self, pixels):
    n = len(log.read_text().split())
    while len(permits.read_text().split()) <= n:
        time.sleep(0.02)
    with log.open("a") as file:
        file.write(f"{len(pixels)}\\n")
    return compute(self, pixels)
Clip.image_embeddings = permitted
def tell(*_):
    threads.write_text("\\n".join(thread.name for thread in threading.enumerate()) + "\\nend")
signal.signal(signal.SIGUSR1, tell)
sys.argv = ["server", "--address", "localhost", "--port", sys.argv[4]]
runpy.run_module("fiftyone.server.main", run_name="__main__")
"""


class App:
    """A server of the App whose tower waits for permits."""

    def __init__(self, folder: Path) -> None:
        self.permits, self.log, self.threads = (folder / name for name in ("may", "did", "threads"))
        self.permits.touch()
        self.log.touch()
        port = free_port()
        files = [str(path) for path in (self.permits, self.log, self.threads)]
        command = [sys.executable, "-W", "ignore", "-c", SERVER, *files, str(port)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        self.address = f"http://localhost:{port}"
        while True:
            assert self.process.poll() is None
            with suppress(OSError):
                urllib.request.urlopen(f"{self.address}/fiftyone", timeout=60).close()
                break
            time.sleep(0.1)

    def permit(self, n_batches: int) -> None:
        with self.permits.open("a") as file:
            file.write("go\n" * n_batches)

    @property
    def n_computed(self) -> int:
        return len(self.log.read_text().split())

    def post(self, path: str, body: dict) -> urllib.request.Request:
        request = urllib.request.Request(self.address + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return urllib.request.urlopen(request, timeout=300)

    @contextmanager
    def stream(self, name: str, dataset: str, params: dict):
        """The reply of an operator, line by line, to a form that was opened before."""
        body = {"operator_uri": f"{PLUGIN_NAME}/{name}", "dataset_name": dataset, "params": params}
        with self.post("/operators/resolve-type", {**body, "target": "inputs"}) as reply:
            form = json.loads(reply.read())
        params["token"] = form["type"]["properties"]["token"]["default"]
        with self.post("/operators/execute/generator", body) as reply:
            yield reply

    def thread_names(self) -> list[str]:
        self.threads.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        while not (self.threads.exists() and self.threads.read_text().endswith("end")):
            time.sleep(0.05)
        return self.threads.read_text().split("\n")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    install_plugin()
    app = App(tmp_path_factory.mktemp("app"))
    yield app
    app.process.kill()
    app.process.wait()


@pytest.fixture
def filled(dataset, fill, pictures):
    fill(draw_many(pictures, N_PICTURES))
    dataset.persistent = True
    return dataset


def is_held(dataset, name):
    """Whether the server's process holds the lock of a name."""
    try:
        with hold(dataset, name):
            return False
    except DatasetError:
        return True


def test_f22_a_closed_page_stops_an_embedding_within_a_batch(app, filled):
    params = {"model": DEMO_NAME, "field": FIELD, "batch_size": BATCH_SIZE, "keep": "as_is"}
    app.permit(2)
    with app.stream("compute_embeddings", filled.name, params) as reply:
        while "4 of" not in reply.readline().decode():
            pass
    before, more = app.n_computed, 0
    # The batch at hand, and the one that makes it notice that nobody reads.
    while is_held(filled, FIELD):
        assert more <= 3
        app.permit(1)
        more += 1
        time.sleep(2)
    assert app.n_computed - before <= 2
    filled.reload()
    sources = filled.exists(f"{FIELD}_source").values("id")
    assert 0 < len(sources) < N_PICTURES
    assert sources == filled.exists(FIELD).values("id")
    kept = filled.select(sources).values(FIELD)
    app.permit(100)  # for whoever would go on
    assert [name for name in app.thread_names() if name.startswith("isoclip-")] == []
    report = embed(filled, DEMO_NAME, progress=False)
    assert (report.kept, report.computed) == (len(sources), N_PICTURES - len(sources))
    np.testing.assert_array_equal(filled.select(sources).values(FIELD), kept)
    clip = load_clip(DEMO_NAME)
    embed(filled, clip, "undisturbed", progress=False)
    np.testing.assert_allclose(
        filled.values(FIELD), filled.values("undisturbed"), rtol=1e-4, atol=1e-5
    )


RUNS = {
    "find_near_duplicates": {"similarity": 0.9, "prefer": "largest", "key": "found"},
    "cluster_images": {"method": "kmeans", "count": 3, "key": "found"},
    "find_leaks": {"similarity": 0.9, "splits_by": "tags", "tags": ["a", "b"], "key": "found"},
    "compare_with_clip": {"k": 2, "key": "found"},
}


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_f22_a_search_whose_page_was_closed_ends_or_stops_but_leaves_nothing_half(
    app, filled, name
):
    embed(filled, DEMO_NAME, progress=False)
    filled.limit(9).tag_samples("a")
    filled.skip(9).tag_samples("b")
    with app.stream(name, filled.name, {"field": FIELD, **RUNS[name]}) as reply:
        reply.readline()
    while is_held(filled, "found"):
        time.sleep(0.2)
    filled.reload()
    runs = list_runs(filled)
    print(name, "ended" if runs else "stopped")
    assert all(run.complete for run in runs)
    own = [field for field in filled.get_field_schema() if field.startswith("found")]
    assert own == [field for run in runs for field in run.fields]
    assert filled.list_saved_views() == [run.key for run in runs]
    with app.stream(name, filled.name, {"field": FIELD, **RUNS[name]}) as reply:
        reply.read()
    filled.reload()
    assert [run.complete for run in list_runs(filled)] == [True]


def test_f22_the_server_is_not_held_up_by_work_that_is_left():
    """Closing the steps returns at once, though the work has not ended."""
    from fiftyone_isoclip.app.steps import follow

    may_end, ended = threading.Event(), threading.Event()

    def work(tell):
        tell(1, 2)
        may_end.wait(60)
        try:
            tell(2, 2)
        finally:
            ended.set()

    steps = follow("Working", work)
    next(steps)
    steps.close()
    assert not ended.is_set()
    may_end.set()
    assert ended.wait(60)


MONITORED = """
from fiftyone.operators.delegated import DelegatedOperationService
DelegatedOperationService().execute_queued_operations(monitor=True, check_interval_seconds=1)
"""


@pytest.mark.long
def test_f22_a_delegated_embedding_that_is_marked_as_failed_ends_and_goes_on_later(
    dataset, fill, pictures
):
    """As `fiftyone delegated fail` does it, for `fiftyone delegated launch --monitor`."""
    install_plugin()
    fill(draw_many(pictures, 400))
    dataset.persistent = True
    embed_all = foo.get_operator(f"{PLUGIN_NAME}/compute_embeddings")
    embed_all(dataset, model=DEMO_NAME, batch_size=1, delegate=True)
    service = DelegatedOperationService()
    (operation,) = service.list_operations(dataset_name=dataset.name)
    worker = subprocess.Popen([sys.executable, "-W", "ignore", "-c", MONITORED])
    while not dataset.has_field(f"{FIELD}_source") or dataset.count(f"{FIELD}_source") < 5:
        assert worker.poll() is None
        time.sleep(0.1)
        dataset.reload()
    service.set_failed(operation.id)
    worker.wait(timeout=120)
    assert not is_held(dataset, FIELD)
    sources = dataset.exists(f"{FIELD}_source").values("id")
    assert 5 <= len(sources) < 400
    report = embed(dataset, DEMO_NAME, progress=False)
    assert (report.kept, report.computed) == (len(sources), 400 - len(sources))
