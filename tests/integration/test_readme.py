"""Every Python block and every command of the README runs as it stands there."""

from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import fiftyone.plugins as fop
import numpy as np
import pytest
from sybil import Document, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.console import run_commands
from tests.pictures import render_photos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a few photos, two of them the same picture."""
    render_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    install_plugin()  # as `isoclip install` above the Python blocks does
    yield tmp_path
    fop.delete_plugin(PLUGIN_NAME)
    if fo.dataset_exists("my-photos"):
        fo.delete_dataset("my-photos")


@pytest.fixture
def readme(repo_root: Path) -> Document:
    parsers = [PythonCodeBlockParser(), CodeBlockParser("console", run_commands)]
    return Sybil(parsers=parsers).parse(repo_root / "README.md")


def test_the_code_of_the_readme_runs_and_means_what_it_says(readme, folder, monkeypatch):
    # Nobody closes a browser window here; the App itself is opened in tests/e2e.
    monkeypatch.setattr(fo, "launch_app", lambda view, auto: view)
    blocks = list(readme.examples())
    assert len(blocks) >= 5
    for example in blocks:
        example.evaluate()
    said = readme.namespace

    groups = [
        {Path(g.path).name, *(Path(c.path).name for c in g.copies)} for g in said["found"].groups
    ]
    assert {"0.png", "0-again.jpg"} in groups
    assert said["near"].ids[0] != said["dataset"].first().id
    assert len(said["clusters"].clusters) == 3

    told = json.loads((folder / "duplicates.json").read_text(encoding="utf-8"))
    named = [
        {Path(g["keeper"]).name, *(Path(m["path"]).name for m in g["members"])}
        for g in told["groups"]
    ]
    assert {"0.png", "0-again.jpg"} in named
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert len(found[0]["results"]) == 5
    assert len(np.load(folder / "embeddings.npz")["embeddings"]) == 7
