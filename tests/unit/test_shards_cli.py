"""`isoclip embed --store` and `isoclip verify`: what they say, and with which exit code."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

from tests.folders import fill_folder
from tests.stores import bytes_of, rows_of
from tests.terminal import isoclip, sentence

SMALL = ["--shard-rows", "4", "--device", "cpu", "--precision", "float32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture
def store(folder, tmp_path):
    result = isoclip("embed", folder.path, "--store", tmp_path / "store", *SMALL)
    assert result.exit_code == 0, result.stderr
    return tmp_path / "store"


def test_a_store_is_made_and_told(folder, tmp_path):
    report = tmp_path / "report.json"
    words = ["embed", folder.path, "--store", tmp_path / "store", *SMALL, "--json", report]
    result = isoclip(*words)
    told = f"12 of 15 images of {folder.path} are embedded in {tmp_path / 'store'}"
    assert result.stdout.splitlines()[0] == told
    assert "3 of 15 could not be read" in result.stderr
    told = json.loads(report.read_text())
    assert (told["images"], told["embedded"], told["before"], told["shards"]) == (15, 12, 0, 4)
    assert sorted(failure["id"] for failure in told["failed"]) == folder.damaged
    assert all(failure["reason"] for failure in told["failed"])
    assert len(rows_of(tmp_path / "store")) == 15


def test_a_second_run_finds_everything_done_and_still_tells_what_failed(folder, store, tmp_path):
    before = bytes_of(store)
    report = tmp_path / "report.json"
    result = isoclip("embed", folder.path, "--store", store, *SMALL, "--json", report)
    assert "15 images from before" in result.stdout
    assert "3 of 15 could not be read" in result.stderr
    assert json.loads(report.read_text())["before"] == 15
    assert bytes_of(store) == before


def test_what_failed_is_tried_again_where_that_is_asked_for(folder, store, tmp_path):
    words = ["embed", folder.path, "--store", store, *SMALL, "--json", tmp_path / "report.json"]
    result = isoclip(*words, "--retry-failed")
    assert "tried 3 images again that had failed before" in result.stderr
    assert "3 of 15 could not be read" in result.stderr
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["before"], told["retried"], len(told["failed"])) == (12, 3, 3)
    assert len(rows_of(store)) == 15
    isoclip(*words)
    assert json.loads((tmp_path / "report.json").read_text())["retried"] == 0


def test_a_relative_folder_gives_the_same_ids(folder, store, monkeypatch):
    before = bytes_of(store)
    monkeypatch.chdir(folder.path.parent)
    assert isoclip("embed", folder.path.name, "--store", store, *SMALL).exit_code == 0
    assert bytes_of(store) == before


def test_verify_tells_what_is_there(store, tmp_path):
    report = tmp_path / "verified.json"
    result = isoclip("verify", store, "--json", report)
    assert result.exit_code == 0, result.stderr
    assert "15 images in 4 shards, 3 of them without an embedding" in result.stdout
    told = json.loads(report.read_text())
    assert (told["model"], told["precision"], told["dtype"]) == (
        "isoclip-demo",
        "float32",
        "float32",
    )
    assert told["complete"] and told["problems"] == []


def test_verify_tells_of_one_shard(folder, tmp_path):
    assert isoclip("embed", folder.path, "--store", tmp_path / "s", *SMALL[2:]).exit_code == 0
    assert "15 images in 1 shard, 3" in isoclip("verify", tmp_path / "s").stdout


def test_verify_names_what_is_wrong_and_a_rerun_mends_it(folder, store, tmp_path):
    sound = bytes_of(store)
    shards = sorted((store / "shards").iterdir())
    shards[0].write_bytes(shards[0].read_bytes()[:-9])
    shards[2].unlink()
    report = tmp_path / "verified.json"
    told = sentence(isoclip("verify", store, "--json", report))
    assert "is damaged: of 2 of its shards something is wrong" in told
    problems = json.loads(report.read_text())["problems"]
    assert [problem["shard"] for problem in problems] == [shards[0].name, shards[2].name]
    result = isoclip("embed", folder.path, "--store", store, *SMALL)
    assert shards[0].name in result.stderr and shards[2].name in result.stderr
    assert bytes_of(store) == sound
    assert isoclip("verify", store).exit_code == 0


def test_f19_verify_does_not_take_a_stopped_run_for_a_complete_one(folder, store, monkeypatch):
    from fiftyone_isoclip.shards.worker import Worker

    before = bytes_of(store)
    calls = []

    def dying(worker, task):
        calls.append(task)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return working(worker, task)

    working = Worker.__call__
    monkeypatch.setattr(Worker, "__call__", dying)
    shutil.rmtree(store)
    assert isoclip("embed", folder.path, "--store", store, *SMALL).exit_code != 0
    assert "has not ended, or was stopped" in sentence(isoclip("verify", store))
    monkeypatch.undo()
    assert isoclip("embed", folder.path, "--store", store, *SMALL).exit_code == 0
    assert bytes_of(store) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["embed", "nowhere", "--store", "s"], "nowhere does not exist"),
        (["embed", "{folder}", "--store", "s", "--dtype", "int8"], "choose float32 or float16"),
        (["embed", "{folder}", "--store", "nowhere://s"], "nowhere://s cannot be reached"),
        (["embed", "{folder}", "--store", "s", "--model", "ViT-Z"], "no checkpoint is called"),
        (["embed", "nothing.parquet", "--store", "s"], "cannot be read as Parquet"),
        (["verify", "nowhere"], "nowhere is no store of embeddings"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(folder, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told in sentence(isoclip(*(word.format(folder=folder.path) for word in words)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["embed", ".", "--store", "s", "--out", "e.npz"], "--store takes files"),
        (["embed", "dataset:x", "--store", "s"], "--store takes files"),
        (["embed", ".", "--out", "e.npz", "--engine", "ray"], "are for --store"),
        (["embed", ".", "--out", "e.npz", "--retry-failed"], "are for --store"),
        (["embed", "{folder}", "--store", ""], "the URI of the store is empty"),
        (["embed", "{folder}", "--store", "s", "--engine", "spark"], "choose local or ray"),
        (["embed", "{folder}", "--store", "s", "--workers", "2"], "choose the engine ray"),
    ],
)
def test_wrong_usage_is_told(folder, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = isoclip(*(word.format(folder=folder.path) for word in words))
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_f09_an_empty_folder_and_one_of_broken_files_are_told(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images" in sentence(isoclip("embed", empty, "--store", tmp_path / "s", *SMALL))
    assert not (tmp_path / "s").exists()
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(folder.damaged))
    told = sentence(isoclip("embed", listed, "--store", tmp_path / "s", *SMALL))
    assert "none of the 3 images" in told
    assert [row["status"] for row in rows_of(tmp_path / "s")] == ["failed"] * 3
