"""Long runs scheduled in the App and carried out by a real `fiftyone delegated launch`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone.factory.repo_factory import RepositoryFactory
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_isoclip import embed, find_duplicates
from fiftyone_isoclip.app.scheduled import SILENT_SECONDS, list_scheduled
from tests.e2e.app_page import PATIENCE_MS, AppPage
from tests.e2e.panel_page import PanelPage
from tests.pictures import draw_many, recompress

pytestmark = pytest.mark.long  # some minutes: workers start, are killed and taken over

EMBED = "IsoCLIP: Compute embeddings"
DUPLICATES = "Find near-duplicates"
ONE_BY_ONE = {"Images at a time (optional)": "1"}
N_IMAGES = 400


class Worker:
    """`fiftyone delegated launch`, as a person starts it in a terminal."""

    def __init__(self) -> None:
        command = [str(Path(sys.executable).with_name("fiftyone")), "delegated", "launch"]
        # In a session of its own, so that a kill reaches all that belongs to it.
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def kill(self) -> None:
        """SIGKILL, which leaves nobody time to say anything."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def hold_at_work(self, dataset: fo.Dataset) -> str:
        """Hold it when it told how far it is, however fast it is; -> that."""
        latest = time.monotonic() + PATIENCE_MS / 1000
        while not (run := list_scheduled(dataset)[0]).share:
            assert run.state in ("queued", "running") and time.monotonic() < latest, run
            time.sleep(0.1)
        self.hold()
        return run.told

    def hold(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it work again (SIGCONT)."""
        os.killpg(self.process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def workers() -> Iterator[Callable[[], Worker]]:
    """Gives the worker that is there, or starts one: that takes longer than what it does here."""
    started: list[Worker] = []

    def find() -> Worker:
        if not started or started[-1].process.poll() is not None:
            started.append(Worker())
        return started[-1]

    yield find
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """So many pictures that embedding them one by one takes a while; one has a copy."""
    folder = tmp_path_factory.mktemp("many")
    paths = draw_many(folder, N_IMAGES - 1)
    paths.append(recompress(paths[0], folder / "copy.jpg", 95))
    dataset = fo.Dataset("many", persistent=True)
    dataset.add_samples([fo.Sample(filepath=path) for path in paths], progress=False)
    yield dataset
    DelegatedOperationService().delete_for_dataset(dataset._doc.id)
    dataset.delete()


@pytest.fixture
def panel(app: AppPage, session: Any, many: fo.Dataset) -> PanelPage:
    """The tab Runs of the panel, on that dataset; wide, or the App covers its own buttons."""
    app.page.set_viewport_size({"width": 2200, "height": 1000})
    app.open(f"http://localhost:{session.server_port}/datasets/{many.name}")
    panel = PanelPage(app)
    panel.open()
    panel.tab("Runs")
    return panel


def schedule(panel: PanelPage, label: str, filled: dict[str, str] | None = None) -> None:
    """Schedule an operator with these inputs, and look at the tab Runs."""
    panel.app.open_operator(label)
    for name, value in (filled or {}).items():
        panel.app.fill(name, value)
    panel.app.schedule()
    panel.tab("Space")
    panel.tab("Runs")


def test_a_killed_workers_embedding_is_taken_up_by_another_and_searched(
    app: AppPage, panel: PanelPage, many: fo.Dataset, workers: Callable[[], Worker]
) -> None:
    schedule(panel, EMBED, ONE_BY_ONE)
    panel.expect_text("fiftyone delegated launch")
    worker = workers()
    told = worker.hold_at_work(many)
    assert re.match(rf"Embedding: \d+ of {N_IMAGES}$", told)
    panel.expect_text(re.compile(rf"{told}, \d+%"))
    worker.kill()
    many.reload()
    n_stored = many.count("clip_embedding_source")
    assert 0 < n_stored < N_IMAGES
    _let_time_pass(many)
    panel.expect_text(re.compile("probably killed"))
    panel.press("Take up again")
    workers()
    panel.expect_text(re.compile("completed, "))
    panel.press("Result")
    app.expect_notice(f"{N_IMAGES - n_stored} embeddings computed, {n_stored} were up to date")
    app.leave_result()
    panel.press("Put away")
    for label, key in (("Build similarity index", "isoclip_search"), (DUPLICATES, "duplicates")):
        schedule(panel, f"IsoCLIP: {label}")
        panel.expect_text(re.compile("completed, "))
        panel.expect_text(key)
        panel.press("Result")
        app.leave_result()
        panel.press("Put away")
    expected = find_duplicates(many, key="at_once")
    app.expect_counts(f"{len(expected.groups)} groups")


def test_one_that_fails_says_why_and_one_is_cancelled_at_work(
    panel: PanelPage, many: fo.Dataset, workers: Callable[[], Worker]
) -> None:
    embed(many, "isoclip-demo", progress=False)
    worker = workers()
    worker.hold()
    schedule(panel, f"IsoCLIP: {DUPLICATES}")
    many.delete_sample_fields(["clip_embedding", "clip_embedding_source", "clip_embedding_error"])
    worker.go_on()
    panel.expect_text("It failed: Dataset 'many' has no embeddings yet; run the operator")
    panel.press("Put away")
    schedule(panel, EMBED, {"Field": "second", **ONE_BY_ONE})
    worker.hold_at_work(many)
    panel.press("Cancel")
    panel.expect_text("It was cancelled; what it stored before is kept.")
    worker.go_on()
    # The same worker: it is free again only once it ended what was cancelled.
    panel.press("Take up again")
    panel.expect_text(re.compile("completed, "))
    (again,) = list_scheduled(many)
    assert again.result is not None and again.result["kept"] > 0
    assert again.result["kept"] + again.result["computed"] == N_IMAGES


def _let_time_pass(dataset: fo.Dataset) -> None:
    """As if the worker had been silent for a minute."""
    runs = RepositoryFactory.delegated_operation_repo()
    heard = datetime.utcnow() - timedelta(seconds=SILENT_SECONDS + 1)
    running = {"dataset_id": dataset._doc.id, "run_state": "running"}
    runs._collection.update_many(running, {"$set": {"updated_at": heard}})
