"""The command line: what it prints where, its reports, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fiftyone_isoclip import __version__
from fiftyone_isoclip.cli.commands import COMMANDS, app
from fiftyone_isoclip.encoder import list_checkpoints, load_clip
from fiftyone_isoclip.files import find_file_duplicates, list_files
from fiftyone_isoclip.install import PLUGIN_NAME
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder

COMMAND = [sys.executable, "-m", "fiftyone_isoclip.cli"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


def isoclip(*words):
    """Run a command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def sentence(result):
    """The single line with which a command that failed by a user's mistake explains itself."""
    assert result.exit_code == 1, result.stderr
    assert isinstance(result.exception, SystemExit)
    told = [line for line in result.stderr.splitlines() if line.startswith("isoclip: ")]
    assert len(told) == 1, result.stderr
    return told[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = isoclip(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


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
    assert known["isoclip-demo"]["image_band"] is None
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["duplicates", "nowhere"], "nowhere does not exist"),
        (["duplicates", "{folder}", "--model", "ViT-Z"], "no checkpoint is called 'ViT-Z'"),
        (["duplicates", "{folder}", "--band", "999/0"], "keeps none of 24 directions"),
        (["duplicates", "{folder}", "--json", "no/report.json"], "does not exist"),
        (["duplicates", "{folder}", "--device", "gpu"], "gpu"),
        (["embed", "{folder}", "--out", "{folder}"], "it is a folder"),
        (["search", "{folder}", "--queries", "nowhere"], "nowhere does not exist"),
        (["search", "{folder}", "--image", "nowhere"], "none of the query images"),
        (["clusters", "{folder}", "--count", "99"], "Asked for 99 clusters of 12 vectors"),
        (["spectrum", "--plot", "spectrum.xyz"], "xyz"),
    ],
)
def test_a_mistake_is_one_sentence(folder, model, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word.format(folder=folder.path) for word in words]
    named = [] if "--model" in words else ["--model", model]
    assert told in sentence(isoclip(*words, *named))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["duplicates"], "Missing argument"),
        (["duplicates", ".", "--band", "much"], "write TOP/BOTTOM"),
        (["duplicates", ".", "--similarity", "2"], "--similarity"),
        (["duplicates", ".", "--keep", "prettiest"], "largest, sharpest, earliest"),
        (["search", "."], "give one of --image"),
        (["search", ".", "--text", "x", "--image", "y"], "give one of --image"),
        (["search", ".", "--text", "x", "--band", "0/0"], "--band is for image queries"),
        (["search", ".", "--text", "x", "-k", "0"], "-k"),
        (["clusters", ".", "--method", "magic"], "magic"),
        (["embed", "."], "--out FILE.npz"),
        (["unknown"], "No such command"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(words, told):
    result = isoclip(*words)
    assert result.exit_code == 2
    # The box around the message breaks its lines.
    assert told in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["duplicates", "clusters", "embed", "search"])
def test_f09_an_empty_folder_is_reported_and_told(command, model, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    words = {"embed": ["--out", tmp_path / "e.npz"], "search": ["--image", folder.scenes[0]]}
    report = tmp_path / "report.json"
    result = isoclip(command, empty, *words.get(command, []), "--model", model, "--json", report)
    assert f"{empty} holds no images" in sentence(result)
    found = json.loads(report.read_text())
    assert found[0]["results"] == [] if command == "search" else found["images"] == 0


def test_f09_when_every_image_fails_the_report_says_why(folder, model, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(folder.damaged))
    result = isoclip("duplicates", listed, "--model", model, "--json", tmp_path / "report.json")
    assert "none of the 3 images" in sentence(result)
    failed = json.loads((tmp_path / "report.json").read_text())["failed"]
    assert [failure["path"] for failure in failed] == folder.damaged


def test_f09_one_image_is_enough(folder, model):
    for command in ("duplicates", "clusters"):
        assert isoclip(command, folder.scenes[0], "--model", model).exit_code == 0


def test_a_list_may_name_files_that_are_gone(folder, model, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"gone.jpg\n{folder.scenes[0]}\n{folder.scenes[0]}\n")
    report = json.loads(isoclip("duplicates", listed, "--model", model, "--json", "-").stdout)
    assert report["images"] == 2
    assert [failure["path"] for failure in report["failed"]] == [str(tmp_path / "gone.jpg")]
    assert report["aliases"] == [folder.scenes[0]]


def test_f13_stored_embeddings_of_another_model_are_refused(folder, model, tmp_path):
    stored = tmp_path / "e.npz"
    isoclip("embed", folder.path, "--model", model, "--out", stored)
    other = write_checkpoint(tmp_path, seed=5)
    told = sentence(isoclip("duplicates", stored, "--model", other))
    assert "use the same model or embed again" in told


def test_help_and_wrong_usage_do_not_wait_for_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\n"
        "from fiftyone_isoclip.cli.commands import app\n"
        "for words in (['--help'], ['duplicates', 'nowhere'], ['search', '.']):\n"
        "    CliRunner().invoke(app, words)\n"
        "print('torch' in sys.modules, 'fiftyone' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]


def test_as_a_program_stdout_is_only_json_and_a_mistake_has_no_traceback(folder):
    words = ["duplicates", str(folder.path), "--model", "isoclip-demo", "--json", "-"]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)["groups"]
    together = [{group["keeper"], *(m["path"] for m in group["members"])} for group in groups]
    assert any({folder.scenes[3], folder.exact_copy} <= files for files in together)
    assert any({folder.scenes[5], folder.recompressed} <= files for files in together)
    failed = subprocess.run([*COMMAND, "duplicates", "nowhere"], capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("isoclip: nowhere does not exist")
    assert "Traceback" not in failed.stderr


def test_ctrl_c_ends_quietly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # writing the report waits for a reader that never comes
    words = ["install", "--plugins-dir", str(tmp_path), "--json", str(pipe)]
    running = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline()  # the result is shown, so the report is what it waits for
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in told


def test_a_reader_that_left_early_causes_no_traceback(tmp_path):
    words = ["install", "--plugins-dir", str(tmp_path)]
    running = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert b"Traceback" not in running.stderr.read()
    running.stderr.close()
    running.wait(timeout=60)
