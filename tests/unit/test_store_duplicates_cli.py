"""`isoclip duplicates STORE`: what it says, and with which exit code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

import pyarrow.parquet as pq

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.binomial import Share
from fiftyone_isoclip.shards import StoreDuplicates
from fiftyone_isoclip.shards.duplicates.search import Search
from tests.folders import fill_folder
from tests.terminal import isoclip, sentence


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of pictures, and a store of it."""
    place = tmp_path_factory.mktemp("world")
    folder = fill_folder(place / "pictures")
    words = ["--device", "cpu", "--precision", "float32", "--shard-rows", "4"]
    result = isoclip("embed", folder.path, "--store", place / "store", *words)
    assert result.exit_code == 0, result.stderr
    return folder, place / "store"


def test_a_store_is_told_as_its_files_are_and_kept_in_a_parquet_file(world, tmp_path):
    folder, store = world
    report, out = tmp_path / "report.json", tmp_path / "found.parquet"
    result = isoclip("duplicates", store, "--json", report, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "2 of 15 images are duplicates, in 2 groups" in result.stdout
    assert "every pair was compared" in result.stdout
    told = json.loads(report.read_text())
    found = {row["path"]: row for row in told["rows"]}
    assert found.keys() == {
        folder.scenes[3],
        folder.exact_copy,
        folder.scenes[5],
        folder.recompressed,
    }
    assert found[folder.exact_copy]["similarity"] == pytest.approx(1, abs=1e-6)
    assert found[folder.scenes[3]]["role"] == "keeper"
    assert (told["images"], told["groups"], told["recall"]) == (15, 2, 1.0)
    table = pq.read_table(out)
    assert table.to_pylist() == told["rows"]
    facts = json.loads(table.schema.metadata[b"isoclip"])
    assert {name: facts[name] for name in ("checkpoint", "images")} == {
        "checkpoint": "isoclip-demo",
        "images": 15,
    }


def test_json_is_made_where_it_is_asked_for_and_after_the_file(world, tmp_path, monkeypatch):
    def fail(found):
        raise VectorError("memory has run out")

    monkeypatch.setattr(StoreDuplicates, "to_json", fail)
    for words in ([], ["--json", tmp_path / "report.json"]):
        out = tmp_path / f"{len(words)}.parquet"
        result = isoclip("duplicates", world[1], "--out", out, *words)
        assert pq.read_table(out).num_rows == 4
        assert ("memory has run out" in result.stderr) == bool(words)


@pytest.mark.parametrize(
    ("recall", "told"),
    [
        (
            Share(0.99, 0.95, 0.998),
            "in 4 of 40 cells; recall 0.9900 by image, of 120 known pairs (with 95 % confidence "
            "between 0.9500 and 0.9980)",
        ),
        (None, "in 4 of 40 cells; recall unknown, of 0 known pairs"),
    ],
)
def test_how_far_pairs_are_all_there_are_is_told(world, monkeypatch, recall, told):
    whole = Search.find
    known = 0 if recall is None else 120

    def find(search, asked):
        return replace(whole(search, asked), cells=40, visited=4, recall=recall, known=known)

    monkeypatch.setattr(Search, "find", find)
    assert told in isoclip("duplicates", world[1]).stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{store}", "--band", "500/500"], "keeps none"),
        (["nowhere://store"], "nowhere://store cannot be reached"),
        (["file:///nowhere"], "is no store of embeddings"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(world, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [word.format(store=world[1]) for word in words]
    assert told in sentence(isoclip("duplicates", *asked, "--out", "found.parquet"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{store}", "--model", "isoclip-demo"], "a store has its own model"),
        (["{store}", "--plan", "plan.json"], "a store has its own model"),
        (["{store}", "--similarity", "auto"], "a store has its own model"),
        (["{store}", "--engine", "spark"], "choose local or ray"),
        (["{store}", "--workers", "2"], "choose the engine ray"),
        (["{store}", "--recall", "0"], "0 is no share of the pairs above 0"),
        (["{store}", "--recall", "2"], "2 is no share of the pairs above 0"),
        (["{store}", "--out", "found.csv"], "give it a name ending in .parquet"),
        (["{folder}", "--engine", "ray"], "are for a store as PATH"),
        (["{folder}", "--out", "found.parquet"], "are for a store as PATH"),
    ],
)
def test_wrong_usage_is_told(world, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"store": world[1], "folder": world[0].path}
    result = isoclip("duplicates", *(word.format(**places) for word in words))
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_manifest_of_somebody_else_is_a_folder(world, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    shutil.copy(world[0].scenes[0], tmp_path / "one.png")
    result = isoclip("duplicates", tmp_path)
    assert "0 of 1 images are duplicates" in result.stdout


def test_what_is_a_uri_is_said_in_one_place(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "2020:" / "pictures"
    folder.mkdir(parents=True)
    shutil.copy(world[0].scenes[0], folder / "one.png")
    result = isoclip("duplicates", "2020://pictures")
    assert "0 of 1 images are duplicates" in result.stdout
