"""What agents are told exists: every operator, every parameter, every risk."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
import yaml

from fiftyone_isoclip.app import OPERATORS
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin

NAME = "curate-with-isoclip"
PASSED_BY_POSITION = {"self", "samples", "delegate"}


@pytest.fixture(scope="module")
def text(repo_root: Path) -> str:
    return (repo_root / "skills" / NAME / "SKILL.md").read_text()


def parameters() -> dict[str, set[str]]:
    signatures = {o.name_: inspect.signature(o.__call__).parameters for o in OPERATORS}
    return {name: set(found) - PASSED_BY_POSITION for name, found in signatures.items()}


def calls(text: str) -> Iterator[tuple[str, set[str]]]:
    """The operators that the examples call, with the names of what they pass."""
    for block in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(inspect.cleandoc("\n" + block))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Call):
                assert isinstance(node.func.args[0], ast.Constant)
                yield str(node.func.args[0].value), {str(k.arg) for k in node.keywords}


def test_the_table_is_the_registry(text: str, repo_root: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (\w+) \|$", text, re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", listed)) for name, listed, _ in rows}
    assert told == parameters()
    allowed = yaml.safe_load((repo_root / "fiftyone.yml").read_text())["operators"]
    assert set(told) == set(allowed)
    assert {name: risk for name, _, risk in rows} == {o.name_: o.risk.value for o in OPERATORS}


def test_the_examples_call_what_exists(text: str) -> None:
    known, called = parameters(), list(calls(text))
    assert len({name for name, _ in called}) >= 10
    for name, passed in called:
        assert passed <= known[name], name


def test_no_example_removes_anything_unasked(text: str) -> None:
    for line in re.findall(r'^.*isoclip\("resolve_duplicates"\).*$', text, re.MULTILINE):
        assert 'action="tag"' in line


def test_fiftyone_lists_it_once_installed(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone.plugins.skills import list_skills

    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path))
    install_plugin(tmp_path)
    (skill,) = list_skills(plugin=PLUGIN_NAME)
    found: dict[str, Any] = skill.to_dict()
    assert (found["name"], found["category"], found["plugin"]) == (NAME, "curation", PLUGIN_NAME)
    assert found["description"].startswith("Clean an image dataset")
    assert skill.content == text
