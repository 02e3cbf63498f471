"""The doctor, on machines that really lack something: each runs in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from fiftyone_isoclip import __version__, doctor
from fiftyone_isoclip.doctor import Finding, diagnose
from fiftyone_isoclip.install import install_plugin
from tests.mongod import free_port

NOBODY = f"127.0.0.1:{free_port()}"


def findings_with(**environment: str) -> dict[str, Finding]:
    """What a fresh interpreter finds with these variables set."""
    code = "import json, dataclasses as d; from fiftyone_isoclip.doctor import diagnose;" + (
        "print(json.dumps([d.asdict(each) for each in diagnose()]))"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"HF_ENDPOINT": f"http://{NOBODY}"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [Finding(**each) for each in json.loads(shown.stdout.splitlines()[-1])]
    return {each.name: each for each in found}


@pytest.fixture(scope="module")
def here() -> dict[str, Finding]:
    return findings_with()


def test_this_machine_can_run_the_package(here: dict[str, Finding]) -> None:
    assert [each for each in here.values() if each.state == "fail"] == []
    assert here["Python"].found == ".".join(map(str, sys.version_info[:3]))
    assert here["fiftyone"].found.startswith("1.22.")
    assert "MongoDB" in here["database"].found
    assert any(word in here["device"].found for word in ("float32", "bf16", "fp16"))


def test_whatever_is_wrong_comes_with_what_to_do(here: dict[str, Finding]) -> None:
    assert all(each.advice for each in here.values() if each.state != "ok")


def test_a_hub_that_does_not_answer_is_no_obstacle(here: dict[str, Finding]) -> None:
    assert here["model hub"].state == "warn"
    assert NOBODY in here["model hub"].found
    assert "isoclip-demo" in here["model hub"].advice
    offline = findings_with(HF_HUB_OFFLINE="1")["model hub"]
    assert (offline.state, offline.found) == ("warn", "switched off by HF_HUB_OFFLINE")


def test_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://someone:secret@{NOBODY}/")
    found = doctor._database()
    assert found.state == "fail"
    assert NOBODY in found.found
    assert "secret" not in found.found
    assert "FIFTYONE_DATABASE_URI" in found.advice


def test_a_configuration_that_is_not_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.json"
    config.write_text("{database_uri")
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(config))
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    found = doctor._database()
    assert found.state == "fail"
    assert str(config) in found.found


def test_an_installation_without_a_mongod(tmp_path: Path) -> None:
    """FiftyOne's package without its binary, as a closed network leaves it."""
    hollow = tmp_path / "fiftyone"
    hollow.mkdir()
    (hollow / "__init__.py").touch()
    environment = {"PYTHONPATH": str(tmp_path), "FIFTYONE_DATABASE_URI": ""}
    found = findings_with(**environment)["database"]
    assert (found.state, found.found) == ("fail", f"no mongod runs at {hollow / 'db/bin/mongod'}")


def test_the_plugin_is_found_once_it_is_installed(tmp_path: Path) -> None:
    environment = {"FIFTYONE_PLUGINS_DIR": str(tmp_path)}
    before = findings_with(**environment)["App plugin"]
    assert (before.state, before.found) == ("warn", "not installed")
    assert before.advice.endswith("run `isoclip install`")
    install_plugin(tmp_path)
    after = findings_with(**environment)["App plugin"]
    assert (after.state, after.found.split()[0]) == ("ok", __version__)


def test_a_package_outside_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_bounds", lambda name: ">=99")
    found = doctor._package("torch")
    assert found.state == "fail"
    assert ">=99" in found.found
    assert found.advice == "run `pip install 'torch>=99'`"
    missing = doctor._package("no-such-package")
    assert (missing.state, missing.found) == ("fail", "not installed")


def test_a_finding_can_be_written_as_json() -> None:
    assert all(json.dumps(asdict(each)) for each in diagnose())
