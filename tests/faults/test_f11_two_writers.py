"""Two processes, one key: real processes, and locks that the operating system keeps."""

from __future__ import annotations

import inspect
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import fiftyone as fo
import pytest
from filelock import FileLock

import fiftyone_isoclip.dataset as verbs
from fiftyone_isoclip.app import OPERATORS
from fiftyone_isoclip.dataset import (
    embed,
    find_clusters,
    find_duplicates,
    list_runs,
    load_run,
    locks,
)
from fiftyone_isoclip.dataset.locks import _place, hold
from fiftyone_isoclip.dataset.resolving import archive_name
from fiftyone_isoclip.dataset.review import judge_again, keep_all, keep_apart, keep_this
from fiftyone_isoclip.dataset.verdicts import VERDICTS_FIELD, read_verdicts
from fiftyone_isoclip.errors import DatasetError
from tests.operators import Offered
from tests.pictures import draw_many
from tests.told_process import ToldProcess

MODEL, FIELD = "isoclip-demo", "clip_embedding"

WRITERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[str, ...]]] = {
    "build_similarity": ((), {"brain_key": "held"}, ("held",)),
    "compare_spaces": ((), {"key": "held"}, ("held",)),
    "compare_with_clip": ((), {"key": "held"}, ("held",)),
    "delete_run": (("held",), {}, ("held",)),
    "embed": (("isoclip-demo", "held"), {}, ("held",)),
    "evaluate": (("label",), {"key": "held"}, ("held",)),
    "find_clusters": ((), {"key": "held"}, ("held",)),
    "find_duplicates": ((), {"key": "held"}, ("held",)),
    "find_exact_duplicates": ((), {"key": "held"}, ("held",)),
    "find_leaks": ((), {"key": "held"}, ("held",)),
    "fit_centre": (("held",), {}, ("held",)),
    "forget_verdicts": ((), {}, (VERDICTS_FIELD,)),
    "guide_threshold": ((), {"key": "held"}, ("held",)),
    "map_embeddings": ((), {"brain_key": "held"}, ("held",)),
    "name_cluster": (("held", "0", "one"), {}, ("held",)),
    "name_clusters_by": (("held", "tags"), {}, ("held",)),
    "refresh_similarity": (("held",), {}, ("held",)),
    "rename_run": (("other", "held"), {}, ("held",)),
    "rerun": (("held",), {}, ("held",)),
    "resolve_duplicates": (("held",), {}, ("held",)),
    "restore_removed": ((), {}, ("ARCHIVE",)),
    "say_not_duplicates": (([],), {}, (VERDICTS_FIELD,)),
    "tune_band": ((), {"copies": True, "key": "held"}, ("held",)),
    "upgrade": (("held", "isoclip-demo"), {}, ("held",)),
}
"""What writes under a name: its arguments after the dataset, and the name that it must have."""

READERS = {
    "find_changes",
    "find_similar",
    "find_staleness",
    "list_runs",
    "load_clusters",
    "load_comparison",
    "load_disagreements",
    "load_duplicates",
    "load_evaluation",
    "load_leaks",
    "load_model",
    "load_run",
    "load_tuning",
    "outliers_view",
    "read_verdicts",
    "register",
}
ONE_WRITE = {"prefer_keeper"}
"""What writes at one go, where the last one counts."""
BY_PLAN = {"plan_file_removal", "apply_file_removal", "undo_file_removal"}
"""What is given a plan, which names the dataset; the files have a journal of their own."""
FROM_FILES = {"import_duplicates", "import_store"}
"""What is given a file or a store first, and then the dataset."""


@pytest.fixture(scope="module")
def started() -> Iterator[list[ToldProcess]]:
    both: list[ToldProcess] = []
    yield both
    for writer in both:
        if writer.process.returncode is None:
            writer.kill()


@pytest.fixture
def writers(started: list[ToldProcess]) -> list[ToldProcess]:
    """Two other processes that do as they are told."""
    started[:] = [writer for writer in started if writer.process.returncode is None]
    new = [ToldProcess() for _ in range(2 - len(started))]
    started += new
    for writer in new:
        assert writer.answer() == "ready"
    return started


@pytest.fixture
def ids(fill: Callable[[Any], list[str]], pictures: Path) -> list[str]:
    paths = draw_many(pictures, 5)
    return fill([*paths, *paths[:1]])


def race(
    dataset: fo.Dataset, writers: list[ToldProcess], verb: str, *asked: Any
) -> tuple[int, str]:
    """Tell both to do the same at once; -> who is at it now, and what the other one was told."""
    for writer, (args, options) in zip(writers, asked, strict=True):
        writer.order(dataset, verb, *args, **options)
    answers = [writer.answer() for writer in writers]
    assert sorted(answer.split()[0] for answer in answers) == ["inside", "refused"], answers
    winner = answers.index("inside")
    return winner, answers[1 - winner]


def told_of(process: int) -> str:
    return rf"being written by process {process} on \S+ since 2\d\d\d-.*T.*; wait until it has ende"


def test_f11_of_two_at_once_one_writes_and_the_other_is_told(dataset, ids, writers):
    first, told = race(dataset, writers, "embed", *[([MODEL], {})] * 2)
    assert re.search(told_of(writers[first].process.pid), told)
    assert f"{FIELD!r} of dataset {dataset.name!r}" in told
    writers[first].say("go on")
    assert writers[first].answer() == "done"
    dataset.reload()
    assert dataset.count(FIELD) == len(ids)

    asked = [([], {"similarity": 0.9}), ([], {"similarity": 0.99})]
    first, told = race(dataset, writers, "find_duplicates", *asked)
    assert re.search(told_of(writers[first].process.pid), told)
    assert list_runs(dataset) == []
    writers[first].say("go on")
    assert writers[first].answer() == "done"

    dataset.reload()
    (run,) = list_runs(dataset)
    assert run.complete
    assert run.parameters["similarity"] == asked[first][1]["similarity"]
    by_hand = find_duplicates(dataset, key="alone", **asked[first][1])
    assert by_hand.groups
    for part in ("group", "role", "similarity"):
        paths = [f"{key}_{part}" for key in ("duplicates", "alone")]
        assert dataset.values(paths[0]) == dataset.values(paths[1])


def test_f11_other_names_do_not_wait_and_lose_nothing(dataset, ids, writers):
    embed(dataset, MODEL, progress=False)
    for writer, key in zip(writers, "ab", strict=True):
        writer.order(dataset, "find_duplicates", key=key)
        assert writer.answer() == "inside"
    for writer in writers:  # both write their fields at the same time
        writer.say("go on")
    assert [writer.answer() for writer in writers] == ["done", "done"]

    dataset.reload()
    assert {run.key: run.complete for run in list_runs(dataset)} == {"a": True, "b": True}
    assert dataset.values("a_role") == dataset.values("b_role")
    assert "keeper" in dataset.values("a_role")
    assert {"a", "b"} <= set(dataset.list_saved_views())


def test_f11_two_who_judge_at_once_are_both_heard(dataset, fill, writers):
    ids = fill([f"/nowhere/{number}.png" for number in range(61)])
    for writer, others in zip(writers, (ids[1::2], ids[2::2]), strict=True):
        writer.order(dataset, "say_not_duplicates", *([ids[0], other] for other in others))
    assert [writer.answer() for writer in writers] == ["done", "done"]
    dataset.reload()
    assert read_verdicts(dataset) == {frozenset((ids[0], other)) for other in ids[1:]}


def test_f11_every_verb_that_writes_is_told_who_holds_its_name(dataset, writers):
    public = {name for name in verbs.__all__ if inspect.isroutine(getattr(verbs, name))}
    assert public == {*WRITERS, *READERS, *ONE_WRITE, *BY_PLAN, *FROM_FILES}
    holder = writers[0]
    schema = list(dataset.get_field_schema())
    names = ("held", VERDICTS_FIELD, archive_name(dataset))
    for name in names:
        holder.order(dataset, "hold", name)
        assert holder.answer() == "inside"
        for verb, (args, options, held) in WRITERS.items():
            if name in [part.replace("ARCHIVE", archive_name(dataset)) for part in held]:
                with pytest.raises(DatasetError, match=told_of(holder.process.pid)):
                    getattr(verbs, verb)(dataset, *args, **options)
        holder.say("go on")
        assert holder.answer() == "done"
    assert list(dataset.get_field_schema()) == schema
    assert dataset.list_runs() == dataset.list_brain_runs() == []


def test_f11_an_import_is_told_too(dataset, writers, tmp_path):
    pytest.importorskip("pyarrow", reason="stores of shards need the extra ray")
    from fiftyone_isoclip.dataset.imports import SAMPLES
    from tests.made_stores import make_store

    store = make_store(tmp_path / "store", ["/nowhere/0.png"])
    for name in ("held", SAMPLES):  # of two imports into two fields one makes the samples
        writers[0].order(dataset, "hold", name)
        assert writers[0].answer() == "inside"
        with pytest.raises(DatasetError, match=told_of(writers[0].process.pid)):
            verbs.import_store(store.uri, dataset, field="held")
        writers[0].say("go on")
        assert writers[0].answer() == "done"
    assert len(dataset) == 0
    assert not dataset.has_field("held")


def test_f11_the_app_tells_it_too(dataset, ids, writers):
    embed(dataset, MODEL, progress=False)
    find_clusters(dataset, key="held")
    writers[0].order(dataset, "hold", "held")
    assert writers[0].answer() == "inside"
    offered = {operator.name_: operator for operator in OPERATORS}
    for name, options in {
        "build_similarity_index": {"key": "held"},
        "delete_run": {"key": "held", "confirm": True},
        "rerun": {"key": "held"},
        "cluster_images": {"key": "held"},
    }.items():
        offer = Offered(offered[name], dataset)
        result = offer.run(**offer.defaults(**options))
        assert re.search(told_of(writers[0].process.pid), result["error"]), name
    for judge, what in ((keep_this, ids[0]), (keep_all, 0), (keep_apart, ids[0]), (judge_again, 0)):
        with pytest.raises(DatasetError, match=told_of(writers[0].process.pid)):
            judge(dataset, "held", what)
    writers[0].say("go on")
    assert writers[0].answer() == "done"
    assert load_run(dataset, "held").complete


def test_f11_two_threads_of_one_process(dataset, ids):
    embed(dataset, MODEL, progress=False)
    inside, go_on = Event(), Event()

    def wait(*_: object) -> None:
        inside.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(find_duplicates, dataset, progress=wait)
        assert inside.wait(60)
        with pytest.raises(DatasetError, match="is being written by process"):
            find_duplicates(dataset)
        go_on.set()
        assert first.result().groups
    assert find_duplicates(dataset).groups


def test_f11_a_name_is_the_dataset_s_own_whatever_it_is_called(dataset):
    clone = dataset.clone()
    with ThreadPoolExecutor(1) as pool, hold(dataset, "held"), hold(dataset, "held"):
        pool.submit(enter, clone).result()
        dataset.name = f"{dataset.name}-renamed"
        with pytest.raises(DatasetError, match=f"of dataset '{dataset.name}' is being written"):
            pool.submit(enter, fo.load_dataset(dataset.name)).result()
    clone.delete()
    enter(dataset)


def enter(dataset: fo.Dataset) -> None:
    with hold(dataset, "held"):
        pass


@pytest.mark.parametrize("left", ["", "{}", "[]", '{"process": 1', "dead", "reborn"])
def test_f11_what_a_dead_process_left_behind_is_not_believed(dataset, left, monkeypatch):
    """Between taking a lock and writing who took it, the file is that of whoever died before."""
    monkeypatch.setattr(locks, "INTRODUCTION_SECONDS", 0.1)
    enter(dataset)
    place = _place(dataset, "held")
    assert not place.with_suffix(".json").exists()
    gone = subprocess.Popen(["true"])
    gone.wait()
    who = {"machine": socket.gethostname(), "since": "2020-01-01T00:00:00+00:00"}
    pid = {"dead": gone.pid, "reborn": os.getpid()}.get(left)
    told = left if pid is None else json.dumps({"process": pid, **who})
    place.with_suffix(".json").write_text(told)
    with (
        FileLock(place.with_suffix(".lock")),
        pytest.raises(DatasetError, match="another process that began a moment ago"),
    ):
        enter(dataset)
    enter(dataset)


def test_f11_where_nothing_can_be_locked_nothing_is_written(dataset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match=r"file.* cannot be written .*FIFTYONE_ISOCLIP_DIR"):
        find_clusters(dataset, key="held")
    assert dataset.list_runs() == []


def test_f11_a_killed_holder_frees_the_name(dataset, ids, writers):
    first, _ = race(dataset, writers, "embed", *[([MODEL], {})] * 2)
    other = writers[1 - first]
    writers[first].kill()
    other.order(dataset, "embed", MODEL, overwrite=True)
    assert other.answer() == "inside"
    other.say("go on")
    assert other.answer() == "done"
    dataset.reload()
    assert dataset.count(FIELD) == len(ids)
