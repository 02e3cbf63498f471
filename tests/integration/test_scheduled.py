"""Runs that are scheduled: through FiftyOne's own queue and executor, beside those run at once."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from bson import ObjectId
from fiftyone.factory.repo_factory import RepositoryFactory
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import execute_or_delegate_operator

from fiftyone_isoclip import embed, find_clusters, find_duplicates
from fiftyone_isoclip.app import OPERATORS, ReviewDuplicates, scheduled, worker
from fiftyone_isoclip.app.steps import Step, Steps, finish
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.faults.test_cross_origin import OPERATOR_HARM, filled
from tests.operators import Offered, add_pictures_with_copies
from tests.panels import Panel, texts, views
from tests.pictures import draw_many

SCHEDULABLE = {each.name_: each for each in OPERATORS if each.schedulable}
ITS_OWN = {"seconds", "seconds_per_query", "plan", "file", "archive", "roots", "_id", "$date"}
ITS_OWN |= {"_dataset_id"}
"""What two runs of the same never have in common: times, names made up, folders."""
Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


def queue(samples: Any, name: str, params: dict[str, Any]) -> str:
    """Schedule it as the form does; -> the id of the operation."""
    offered = Offered(SCHEDULABLE[name], samples)
    asked = offered.context(offered.defaults(**params)).request_params
    answer = asyncio.run(
        execute_or_delegate_operator(asked["operator_uri"], {**asked, "request_delegation": True})
    )
    assert answer.error is None, answer.error
    return str(answer.result["id"])


def carry_out(operation: str) -> Any:
    """What `fiftyone delegated launch` does with it; -> what FiftyOne keeps of it afterwards."""
    service = DelegatedOperationService()
    service.execute_operation(service.get(ObjectId(operation)))
    return service.get(ObjectId(operation))


def prepare(name: str, folder: Path) -> fo.Dataset:
    """Pictures with copies; all else that operators work on is made by those before them."""
    folder.mkdir()
    dataset = fo.Dataset(name)
    add_pictures_with_copies(dataset, folder)
    return dataset


class World:
    """A dataset, and what is told of it in words that hold for an equal one."""

    def __init__(self, name: str, folder: Path) -> None:
        self.dataset = prepare(name, folder)
        ids, paths = self.dataset.values(["id", "filepath"])
        self._words = dict(zip(ids, [Path(path).name for path in paths], strict=True))
        self._words |= {str(folder): "FOLDER", name: "NAME"}

    def comparable(self, told: Any) -> Any:
        """As JSON, by the names of files instead of ids and folders."""
        text = json.dumps(_without(told), sort_keys=True)
        for own, word in self._words.items():
            text = text.replace(own, word)
        return json.loads(text)

    def contents(self) -> Any:
        """All values of all samples but their times."""
        self.dataset.reload()
        return self.comparable([json.loads(sample.to_json()) for sample in self.dataset])


def _without(told: Any) -> Any:
    if isinstance(told, dict):
        own = {name for name in told if name in ITS_OWN or name.endswith("_source")}
        return {name: _without(each) for name, each in told.items() if name not in own}
    return [_without(each) for each in told] if isinstance(told, (list, tuple)) else told


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    """What each operator tells and writes at once, and from the queue, on two equal datasets."""
    folder = tmp_path_factory.mktemp("scheduled")
    at_once, from_queue = (World(f"{folder.name}-{n}", folder / str(n)) for n in range(2))
    found: dict[str, list[Any]] = {}
    for name, wanted in OPERATOR_HARM.items():
        offered = Offered(SCHEDULABLE[name], at_once.dataset)
        shown = offered.run(**offered.defaults(**filled(at_once.dataset, wanted)))
        done = carry_out(queue(from_queue.dataset, name, filled(from_queue.dataset, wanted)))
        kept = done.result.result or done.result.error
        written = at_once.contents(), from_queue.contents()
        found[name] = [at_once.comparable(shown), from_queue.comparable(kept), done, written]
    yield found
    at_once.dataset.delete()
    from_queue.dataset.delete()


@pytest.mark.parametrize("name", SCHEDULABLE)
def test_the_queue_gives_and_writes_what_is_given_and_written_at_once(
    twice: dict[str, list[Any]], name: str
) -> None:
    shown, kept, operation, (at_once, from_queue) = twice[name]
    assert "error" not in shown
    assert (operation.run_state, kept) == ("completed", shown)
    assert at_once == from_queue
    assert operation.label == SCHEDULABLE[name].label
    assert operation.metadata["outputs_schema"]["type"]["properties"]


def test_what_only_opens_a_panel_cannot_be_scheduled() -> None:
    assert {each for each in OPERATORS if not each.schedulable} == {ReviewDuplicates}


@pytest.fixture
def embedding(dataset: fo.Dataset, fill: Fill, pictures: Path) -> str:
    """A scheduled embedding of 60 pictures, one at a time; -> its id."""
    fill(draw_many(pictures, 60))
    return queue(dataset, "compute_embeddings", {"model": "isoclip-demo", "batch_size": 1})


def test_a_failure_is_told_in_one_sentence(
    dataset: fo.Dataset, embedding: str, checkpoint: str
) -> None:
    embed(dataset.limit(2), checkpoint, progress=False)
    assert carry_out(embedding).run_state == "failed"
    said = texts(Panel(dataset, "runs").send())
    sentence = "It failed: plain embeddings of isoclip-demo [^\n]* or pass overwrite=True$"
    assert re.search(sentence, said, re.MULTILINE) and "Traceback" not in said


def test_somebody_elses_error_stays_with_the_worker(
    dataset: fo.Dataset,
    embedding: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/home/somebody/.secret")

    monkeypatch.setattr("fiftyone_isoclip.dataset.embed", fail)
    done = carry_out(embedding)
    said = texts(Panel(dataset, "runs").send())
    assert "It failed: PermissionError: look for error " in said
    assert "secret" not in said + str(done.result.error) and "secret" in caplog.text


def test_a_form_that_became_wrong_says_why(dataset: fo.Dataset, fill: Fill, pictures: Path) -> None:
    fill(draw_many(pictures, 2))
    embed(dataset, "isoclip-demo", progress=False)
    find_clusters(dataset, count=2)
    operation = queue(dataset, "delete_run", {"key": "clusters", "confirm": True})
    find_duplicates(dataset)
    fo.load_dataset(dataset.name).rename_run("clusters", "looks")
    carry_out(operation)
    assert "It failed: There is no run 'clusters'" in texts(Panel(dataset, "runs").send())


def test_what_is_cancelled_in_the_queue_is_never_begun(dataset: fo.Dataset, embedding: str) -> None:
    panel = Panel(dataset, "runs")
    assert "queued" in texts(panel.send()) and "fiftyone delegated launch" in texts(panel.send())
    panel.press("Cancel")
    assert "It was cancelled; what it stored before is kept." in texts(panel.send())
    assert carry_out(embedding).run_state == "failed"
    assert not dataset.has_field("clip_embedding")


def test_a_worker_takes_the_latest_first_as_the_tab_says(
    dataset: fo.Dataset, fill: Fill, pictures: Path
) -> None:
    fill(draw_many(pictures, 2))
    for key in ("first", "second"):
        queue(dataset, "find_exact_duplicates", {"key": key})
    assert "the latest first" in texts(Panel(dataset, "runs").send())
    DelegatedOperationService().execute_queued_operations(dataset_name=dataset.name, limit=1)
    dataset.reload()
    assert dataset.list_runs() == ["second"]


def test_a_cancelled_run_ends_and_goes_on_where_it_was(
    dataset: fo.Dataset, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.02)
    working = threading.Thread(target=carry_out, args=[embedding])
    working.start()
    # Not by the panel: FiftyOne's datasets are no matter for two threads of one process.
    while not (run := scheduled.find_scheduled(dataset, embedding)).told.startswith("Embedding: "):
        assert working.is_alive()
    assert run.state == "running" and run.share is not None and run.share < 1
    scheduled.cancel(dataset, embedding)
    working.join(60)
    # Nobody holds the field any more: what goes on finds it free.
    dataset.reload()
    n_stored = dataset.count("clip_embedding_source")
    assert 0 < n_stored < 60
    panel = Panel(dataset, "runs")
    assert "cancelled" in texts(panel.send()) and "It failed" not in texts(panel.send())
    panel.press("Take up again")
    (again,) = scheduled.list_scheduled(dataset)
    done = carry_out(again.id)
    assert (done.run_state, done.result.result["kept"]) == ("completed", n_stored)
    assert done.result.result["computed"] == 60 - n_stored


def test_a_run_whose_worker_is_gone_is_taken_up_again(dataset: fo.Dataset, embedding: str) -> None:
    service = DelegatedOperationService()
    service.set_running(ObjectId(embedding))
    panel = Panel(dataset, "runs")
    with pytest.raises(ValueError, match="not enough values"):
        panel.press("Take up again")  # its worker may be at work
    _say_nothing_for(embedding, scheduled.SILENT_SECONDS + 1)
    assert "probably killed" in texts(panel.send())
    panel.press("Take up again")
    (again,) = scheduled.list_scheduled(dataset)
    assert again.state == "queued" and again.id != embedding
    assert carry_out(again.id).result.result["computed"] == 60
    # The worker that was taken for dead ends its run as soon as it looks.
    with worker.attend(ObjectId(embedding)) as tell, pytest.raises(IsoClipError):
        while True:
            tell(Step("Working"))
            time.sleep(0.05)


def test_of_two_who_take_up_the_same_run_one_does(
    dataset: fo.Dataset, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled.cancel(dataset, embedding)
    both_read, read = threading.Barrier(2), scheduled.find_scheduled

    def find(*asked: Any) -> Any:
        found = read(*asked)
        both_read.wait(60)
        return found

    monkeypatch.setattr(scheduled, "find_scheduled", find)
    refused: list[str] = []

    def take_up() -> None:
        try:
            scheduled.take_up(dataset, embedding)
        except IsoClipError as error:
            refused.append(str(error))

    both = [threading.Thread(target=take_up) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
    (again,) = scheduled.list_scheduled(dataset)
    assert again.state == "queued" and again.id != embedding
    assert len(refused) == 1 and "look again" in refused[0]


def test_what_ended_or_was_begun_meanwhile_is_looked_at_again(
    dataset: fo.Dataset, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, id_ = DelegatedOperationService(), ObjectId(embedding)
    read, meanwhile = scheduled.find_scheduled, [service.set_completed, service.set_running]

    def find(*asked: Any) -> Any:
        found = read(*asked)
        if meanwhile:
            meanwhile.pop()(id_)
        return found

    monkeypatch.setattr(scheduled, "find_scheduled", find)
    with pytest.raises(IsoClipError, match="completed already"):
        scheduled.cancel(dataset, embedding)
    assert service.get(id_).run_state == "completed"
    service.set_queued(id_)
    meanwhile.append(service.set_running)
    scheduled.cancel(dataset, embedding)
    assert read(dataset, embedding).state == "cancelled"
    # A silent worker's run that is at its end after all is not queued again.
    service.set_running(id_)
    _say_nothing_for(embedding, scheduled.SILENT_SECONDS + 1)
    meanwhile.append(service.set_completed)
    with pytest.raises(IsoClipError, match="look again"):
        scheduled.take_up(dataset, embedding)
    (run,) = scheduled.list_scheduled(dataset)
    assert (run.id, run.state) == (embedding, "completed")


def test_all_that_wait_are_listed_and_the_latest_that_ended(
    dataset: fo.Dataset, embedding: str
) -> None:
    service = DelegatedOperationService()
    n_shown = 10
    more = [str(service.rerun_operation(ObjectId(embedding)).id) for _ in range(n_shown + 2)]
    waiting = [embedding, *more]
    assert [run.id for run in scheduled.list_scheduled(dataset)] == waiting[::-1]
    panel = Panel(dataset, "runs")
    assert [b["label"] for b in views(panel.send(), "Button")].count("Cancel") == len(waiting)
    for id_ in more:
        scheduled.cancel(dataset, id_)
    assert [run.id for run in scheduled.list_scheduled(dataset)] == [
        *more[: -n_shown - 1 : -1],
        embedding,
    ]
    assert f"THE LATEST {n_shown} OF {len(more)} THAT ENDED" in texts(panel.send())
    scheduled.put_away(dataset, more[-1])
    scheduled.put_away(dataset, more[-2])
    assert "SCHEDULED**" in texts(panel.send())


def test_a_run_of_which_no_time_is_known_is_told_as_of_when_it_was_made(
    dataset: fo.Dataset, embedding: str
) -> None:
    id_, unknown = ObjectId(embedding), dict.fromkeys(("updated_at", "started_at", "queued_at"))
    runs = RepositoryFactory.delegated_operation_repo()
    runs._collection.update_one({"_id": id_}, {"$set": {"run_state": "running", **unknown}})
    (run,) = scheduled.list_scheduled(dataset)
    assert run.state == "running" and run.since == id_.generation_time.replace(tzinfo=None)


def test_the_tab_is_drawn_again_ever_more_seldom_and_not_for_a_worker_that_is_gone(
    dataset: fo.Dataset, embedding: str
) -> None:
    panel, service = Panel(dataset, "runs"), DelegatedOperationService()
    runs = RepositoryFactory.delegated_operation_repo()

    def intervals() -> list[float]:
        return [view["interval"] / 1000 for view in views(panel.send(), "TimerView")]

    def wait(field: str, seconds: float) -> None:
        then = datetime.utcnow() - timedelta(seconds=seconds)
        runs._collection.update_one({"_id": ObjectId(embedding)}, {"$set": {field: then}})

    assert intervals() == [3]
    for state, field in (("queued", "queued_at"), ("running", "started_at")):
        wait(field, 400)
        assert intervals() == [20], state
        wait(field, 86_400)
        assert intervals() == [60], state
        service.set_running(ObjectId(embedding))
        assert intervals() == [3]
    service.rerun_operation(ObjectId(embedding))
    wait("started_at", 86_400)
    assert intervals() == [3]  # of two, what the younger asks for
    (younger,) = [run for run in scheduled.list_scheduled(dataset) if run.state == "queued"]
    scheduled.cancel(dataset, younger.id)
    _say_nothing_for(embedding, scheduled.SILENT_SECONDS + 1)
    assert "probably killed" in texts(panel.send()) and intervals() == []


@pytest.mark.parametrize("more", [0, 1])
def test_steps_that_end_by_themselves_hide_no_cancelling(more: int) -> None:
    ended: list[bool] = []

    def steps() -> Steps[int]:
        try:
            yield Step("Working")
        except IsoClipError:
            yield from [Step("Putting away")] * more
        finally:
            ended.append(True)
        return 7

    def tell(step: Step) -> None:
        raise IsoClipError(f"cancelled at {step.label}")

    with pytest.raises(IsoClipError, match="cancelled at Working"):
        finish(steps(), tell)
    assert ended


def test_what_cannot_be_queued_again_stays_in_the_list(
    dataset: fo.Dataset, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled.cancel(dataset, embedding)
    runs = RepositoryFactory.delegated_operation_repo()
    runs._collection.update_one({"_id": ObjectId(embedding)}, {"$set": {"rerunnable": False}})
    with pytest.raises(ValueError, match="rerunnable"):
        scheduled.take_up(dataset, embedding)
    assert [run.id for run in scheduled.list_scheduled(dataset)] == [embedding]


def test_a_worker_that_tells_no_steps_is_not_taken_for_dead(
    dataset: fo.Dataset, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.02)
    DelegatedOperationService().set_running(ObjectId(embedding))
    _say_nothing_for(embedding, scheduled.SILENT_SECONDS + 1)
    with worker.attend(ObjectId(embedding)):
        while scheduled.find_scheduled(dataset, embedding).state == "silent":
            time.sleep(0.02)


def test_what_has_ended_is_put_away_and_of_others_nothing_is_touched(
    dataset: fo.Dataset, embedding: str
) -> None:
    other = fo.Dataset()
    for act in (scheduled.cancel, scheduled.take_up, scheduled.put_away):
        for id_ in (embedding, "nonsense", str(ObjectId())):
            with pytest.raises(IsoClipError, match="no scheduled run"):
                act(other, id_)
    with pytest.raises(IsoClipError, match="cancel it first"):
        scheduled.put_away(dataset, embedding)
    with pytest.raises(IsoClipError, match="is queued"):
        scheduled.take_up(dataset, embedding)
    carry_out(embedding)
    with pytest.raises(IsoClipError, match="completed already"):
        scheduled.cancel(dataset, embedding)
    panel = Panel(dataset, "runs")
    panel.press("Result")
    assert panel.told["show_output"]["results"]["computed"] == 60
    assert "reload_dataset" in panel.told
    panel.press("Put away")
    assert scheduled.list_scheduled(dataset) == []
    other.delete()


def _say_nothing_for(operation: str, seconds: float) -> None:
    runs = RepositoryFactory.delegated_operation_repo()
    heard = datetime.utcnow() - timedelta(seconds=seconds)
    runs._collection.update_one({"_id": ObjectId(operation)}, {"$set": {"updated_at": heard}})
