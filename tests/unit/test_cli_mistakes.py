"""The command line tells a mistake in one sentence, and ends quietly however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder
from tests.terminal import PROGRAM, isoclip, sentence


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["duplicates", "nowhere"], "nowhere does not exist"),
        (["duplicates", "{folder}", "--model", "ViT-Z"], "no checkpoint is called 'ViT-Z'"),
        (["duplicates", "{folder}", "--band", "999/0"], "keeps none of 24 directions"),
        (["duplicates", "{folder}", "--band", "4/3-centred"], "the command line have none"),
        (["duplicates", "{folder}", "--json", "no/report.json"], "does not exist"),
        (["duplicates", "{folder}", "--device", "gpu"], "gpu"),
        (["duplicates", "{folder}", "--recall", "1"], "above 0 and below 1; got 1"),
        (["embed", "{folder}", "--out", "{folder}"], "it is a folder"),
        (["embed", "{folder}", "--out", "a.npz", "--decoding", "wrong"], "exact or fast"),
        (["embed", "{folder}", "--out", "photo.JPG"], "name of a picture"),
        (["duplicates", "{folder}", "--json", "photo.png"], "name of a picture"),
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
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)["groups"]
    together = [{group["keeper"], *(m["path"] for m in group["members"])} for group in groups]
    assert any({folder.scenes[3], folder.exact_copy} <= files for files in together)
    assert any({folder.scenes[5], folder.recompressed} <= files for files in together)
    failed = subprocess.run([*PROGRAM, "duplicates", "nowhere"], capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("isoclip: nowhere does not exist")
    assert "Traceback" not in failed.stderr


def test_ctrl_c_ends_quietly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # writing the report waits for a reader that never comes
    words = ["install", "--plugins-dir", str(tmp_path), "--json", str(pipe)]
    running = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline()  # the result is shown, so the report is what it waits for
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in told


def test_a_reader_that_left_early_causes_no_traceback(tmp_path):
    words = ["install", "--plugins-dir", str(tmp_path)]
    running = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert b"Traceback" not in running.stderr.read()
    running.stderr.close()
    running.wait(timeout=60)


def test_an_earlier_result_outlives_a_run_that_embeds_nothing(folder, model, tmp_path):
    out, empty = tmp_path / "kept.npz", tmp_path / "empty"
    empty.mkdir()
    isoclip("embed", folder.path, "--out", out, "--model", model)
    before = out.read_bytes()
    assert isoclip("embed", empty, "--out", out, "--model", model).exit_code == 1
    assert out.read_bytes() == before
