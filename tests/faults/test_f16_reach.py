"""Who reaches the App: this machine only, unless it is asked for, and then it is said plainly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_isoclip.demo.run import open_app
from fiftyone_isoclip.install import _plugin_files, install_plugin
from fiftyone_isoclip.installation import LOOPBACK, open_doors


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_f16_this_machine_alone_is_nothing_to_tell(address: str) -> None:
    assert open_doors(address) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "a-name.example", ""])
def test_f16_any_other_address_is_told(address: str) -> None:
    (door,) = open_doors(address)
    assert "can read every file" in door and "run operators" in door


@pytest.mark.parametrize(
    ("origins", "told"),
    [("*", True), ("http://a.example, *", True), ("http://a.example", False), ("", False)],
)
def test_f16_pages_that_may_read_replies_are_told(
    origins: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIFTYONE_ALLOWED_ORIGINS", origins)
    doors = open_doors(LOOPBACK)
    assert bool(doors) is told and (not told or "every web page" in doors[0])


def test_f16_the_demonstration_is_for_this_machine_whatever_is_configured(
    dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset.save_view("duplicates", dataset.view())
    monkeypatch.setenv("FIFTYONE_DEFAULT_APP_ADDRESS", "0.0.0.0")
    asked: list[str] = []

    class Session:
        server_port = 1

    def launch(*_: Any, address: str, **__: Any) -> Session:
        asked.append(address)
        return Session()

    monkeypatch.setattr(fo, "launch_app", launch)
    open_app(dataset.name, wait=False)
    assert asked == [LOOPBACK] and "Beware" not in capsys.readouterr().out
    open_app(dataset.name, address="0.0.0.0", wait=False)
    assert asked[1] == "0.0.0.0" and "Beware: the App listens at 0.0.0.0" in capsys.readouterr().out


def test_f16_the_doctor_tells_it_too(tmp_path: Path) -> None:
    code = (
        "from fiftyone_isoclip import doctor;"
        "print(*[(each.state, each.advice) for each in (doctor._app(), doctor._own_files())])"
    )

    def asked(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert asked() == "('ok', '') ('ok', '')\n"
    plugins = str(tmp_path / "plugins")
    told = asked(
        FIFTYONE_DEFAULT_APP_ADDRESS="0.0.0.0",
        FIFTYONE_ALLOWED_ORIGINS="*",
        FIFTYONE_PLUGINS_DIR=plugins,
        FIFTYONE_ISOCLIP_DIR=f"{plugins}/x",
    )
    assert told.startswith("('warn',") and "every web page" in told and "('fail'," in told


def test_f16_the_plugins_folder_holds_code_only(tmp_path: Path) -> None:
    target = install_plugin(tmp_path)
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert there == set(_plugin_files())
    kinds = {Path(name).suffix for name in there}
    assert kinds <= {".yml", ".py", ".svg", ".md"}
    assert list(tmp_path.rglob(".*")) == []
