"""The command line: what it prints and what it reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fiftyone_isoclip import __version__
from fiftyone_isoclip.cli.commands import COMMANDS
from fiftyone_isoclip.encoder import list_checkpoints, load_clip
from fiftyone_isoclip.files import find_file_duplicates, list_files
from fiftyone_isoclip.install import PLUGIN_NAME
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder
from tests.terminal import isoclip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = isoclip(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_an_import_is_explained_without_the_words_of_embed():
    told = " ".join(isoclip("import", "--help").stdout.replace("│", " ").split())
    assert "Where the dataset keeps the embeddings" in told
    assert "dataset:NAME" not in told


def test_the_version_is_the_packages():
    assert isoclip("--version").stdout == f"isoclip {__version__}\n"


def test_duplicates_report_what_python_finds(folder, model, tmp_path):
    out = tmp_path / "duplicates.json"
    result = isoclip(
        "duplicates", folder.path, "--model", model, "--similarity", 0.9, "--json", out
    )
    assert result.exit_code == 0
    report = json.loads(out.read_text())
    clip = load_clip(model)
    found = find_file_duplicates(list_files(folder.path), clip, similarity=0.9).to_json()
    assert report.pop("seconds") > 0
    assert report == json.loads(json.dumps(found))
    assert report["images"] == len(folder.readable) + len(folder.damaged)
    assert [failure["path"] for failure in report["failed"]] == folder.damaged
    assert "3 of 15 could not be read" in result.stderr


def test_duplicates_of_plain_clip_are_those_of_the_embeddings(folder, model, tmp_path):
    stored = tmp_path / "e.npz"
    assert isoclip("embed", folder.path, "--model", model, "--out", stored).exit_code == 0
    with np.load(stored, allow_pickle=False) as arrays:
        paths, rows = arrays["paths"].tolist(), arrays["embeddings"].astype(np.float64)
        assert sorted(arrays["failed_paths"].tolist()) == folder.damaged
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    words = ["duplicates", stored, "--model", model, "--band", "0/0", "--similarity", 0.5]
    report = json.loads(isoclip(*words, "--json", "-").stdout)
    assert report["band"] == "0/0"
    assert report["groups"]
    for group in report["groups"]:
        keeper = rows[paths.index(group["keeper"])]
        for member in group["members"]:
            cosine = rows[paths.index(member["path"])] @ keeper
            assert member["similarity"] == pytest.approx(cosine, abs=1e-5)


def test_search_results_are_cosines_of_the_stored_embeddings(folder, model, tmp_path):
    stored = tmp_path / "e.npz"
    isoclip("embed", folder.path, "--model", model, "--out", stored)
    queries = tmp_path / "queries.txt"
    queries.write_text("\n".join([*folder.scenes[:3], folder.scenes[0]]))
    words = ["search", folder.path, "--queries", queries, "-k", 3, "--model", model]
    report = json.loads(isoclip(*words, "--json", "-").stdout)
    assert [entry["query"] for entry in report] == [*folder.scenes[:3], folder.scenes[0]]
    with np.load(stored, allow_pickle=False) as arrays:
        paths, plain = arrays["paths"].tolist(), arrays["embeddings"].astype(np.float64)
    rows = plain @ load_clip(model).isoclip().matrix.T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for entry in report:
        assert set(entry) == {"query", "results"}
        scores = dict(zip(paths, rows @ rows[paths.index(entry["query"])], strict=True))
        del scores[entry["query"]]
        best = sorted(scores.values(), reverse=True)[:3]
        assert [hit["similarity"] for hit in entry["results"]] == pytest.approx(best, abs=1e-4)
        for hit in entry["results"]:
            assert hit["similarity"] == pytest.approx(scores[hit["path"]], abs=1e-4)


def test_one_bad_query_does_not_cost_the_others(folder, model):
    words = ["search", folder.path, "--image", folder.damaged[0], "--image", folder.scenes[0]]
    result = isoclip(*words, "-k", 2, "--model", model, "--json", "-")
    bad, good = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (bad["results"], len(good["results"])) == ([], 2)
    assert f"no results for {folder.damaged[0]}: " in result.stderr


def test_text_search_says_what_it_found(folder, model):
    result = isoclip("search", folder.path, "--text", "a red ball", "-k", 2, "--model", model)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].startswith("a red ball ")
    assert len(result.stdout.splitlines()) == 3


def test_clusters_hold_every_image_once(folder, model):
    words = ["clusters", folder.path, "--count", 3, "--model", model]
    report = json.loads(isoclip(*words, "--json", "-").stdout)
    members = [path for cluster in report["clusters"] for path in cluster["members"]]
    assert sorted(members) == folder.readable
    assert len(isoclip(*words).stdout.splitlines()) == 4


def test_models_are_listed_with_their_bands():
    known = {entry["name"]: entry for entry in json.loads(isoclip("models", "--json", "-").stdout)}
    assert set(known) == {checkpoint.name for checkpoint in list_checkpoints()}
    assert known["isoclip-vit-b-16-openai"]["image_band"] == "200/50"
    assert known["isoclip-vit-b-32-datacomp-xl"]["text_band"] is None
    row = next(line for line in isoclip("models").stdout.splitlines() if "vit-l-14" in line)
    assert row.split()[:3] == ["isoclip-vit-l-14-openai", "250/200", "10/300"]


def test_the_spectrum_is_that_of_the_two_heads(model, tmp_path):
    plot = tmp_path / "spectrum.png"
    found = json.loads(isoclip("spectrum", "--model", model, "--plot", plot, "--json", "-").stdout)
    clip = load_clip(model, device="cpu")
    product = clip.image_head.matrix.T @ clip.text_head.matrix
    wanted = np.linalg.svd(product, compute_uv=False)[: found["rank"]]
    np.testing.assert_allclose(found["values"], wanted, rtol=1e-9)
    assert found["image_band"] == str(clip.image_band)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "rank" in isoclip("spectrum", "--model", model).stdout


def test_the_plugin_is_installed_where_asked(tmp_path):
    report = json.loads(isoclip("install", "--plugins-dir", tmp_path, "--json", "-").stdout)
    assert report["plugin"] == str(tmp_path.joinpath(*PLUGIN_NAME.split("/")))
    assert Path(report["plugin"], "fiftyone.yml").is_file()


def test_the_doctor_fails_only_by_a_failing_finding():
    result = isoclip("doctor", "--json", "-")
    states = [finding["state"] for finding in json.loads(result.stdout)]
    assert result.exit_code == int("fail" in states)


def test_f07_odd_names_stay_on_their_line_and_are_no_markup(folder, model):
    result = isoclip("duplicates", folder.path, "--model", model, "--similarity", 1)
    assert f"{folder.path}/scene [3].png  " in result.stdout
    assert "kopi\\næ.png  exact  1.000" in result.stdout
