"""`isoclip install`: the folder through which FiftyOne finds an installed package."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from fiftyone_isoclip import IsoClipError, __version__, install
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin, plugin_status


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_folder_is_the_checkouts_metadata_with_an_entry_of_its_own(
    tmp_path: Path, repo_root: Path
) -> None:
    folder = install_plugin(tmp_path)
    assert folder == tmp_path / "@isoclip" / "isoclip"
    installed = yaml.safe_load((folder / "fiftyone.yml").read_text())
    source = yaml.safe_load((repo_root / "fiftyone.yml").read_text())
    assert installed == source | {"py_entry": "__init__.py"}
    copied = [*repo_root.glob("assets/*.svg"), *repo_root.glob("skills/*/SKILL.md")]
    assert {path.suffix for path in copied} == {".svg", ".md"}
    for path in copied:
        assert (folder / path.relative_to(repo_root)).read_bytes() == path.read_bytes()


def test_the_entry_offers_the_packages_own_register(tmp_path: Path) -> None:
    from fiftyone_isoclip import plugin

    shim: dict[str, object] = {}
    exec((install_plugin(tmp_path) / "__init__.py").read_text(), shim)
    assert shim["register"] is plugin.register


def test_installing_again_changes_nothing(tmp_path: Path) -> None:
    folder = install_plugin(tmp_path)
    before = contents(tmp_path), folder.stat().st_ino
    assert install_plugin(tmp_path) == folder
    assert (contents(tmp_path), folder.stat().st_ino) == before


def test_installing_over_an_older_version_leaves_nothing_of_it(tmp_path: Path) -> None:
    folder = install_plugin(tmp_path)
    fresh = contents(tmp_path)
    metadata = (folder / "fiftyone.yml").read_text()
    (folder / "fiftyone.yml").write_text(metadata.replace(__version__, "0.0.1"))
    (folder / "forgotten.py").write_text("raise SystemExit")
    assert "0.0.1" in str(plugin_status(tmp_path).problem)
    install_plugin(tmp_path)
    assert contents(tmp_path) == fresh


def test_a_failure_while_writing_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install_plugin(tmp_path)
    (folder / "__init__.py").write_text("the old one")
    before = contents(tmp_path)

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IsoClipError, match=r"No space left on device.*FIFTYONE_PLUGINS_DIR"):
        install_plugin(tmp_path)
    assert contents(tmp_path) == before


def test_a_downloaded_plugin_is_not_shadowed_by_a_second_one(tmp_path: Path) -> None:
    downloaded = tmp_path / "elsewhere"
    downloaded.mkdir()
    (downloaded / "fiftyone.yml").write_text(f'name: "{PLUGIN_NAME}"\nversion: "{__version__}"\n')
    status = plugin_status(tmp_path)
    assert (status.path, status.version, status.problem) == (downloaded, __version__, None)
    with pytest.raises(IsoClipError, match="fiftyone plugins delete @isoclip/isoclip"):
        install_plugin(tmp_path)


def test_hidden_folders_and_other_plugins_do_not_count(tmp_path: Path) -> None:
    for name in (".isoclip-left-over", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / ".isoclip-left-over" / "fiftyone.yml").write_text(f"name: '{PLUGIN_NAME}'\n")
    (tmp_path / "other" / "fiftyone.yml").write_text("name: '@somebody/else'\n")
    status = plugin_status(tmp_path)
    assert status.path is None
    assert "isoclip install" in str(status.problem)


def test_status_before_and_after(tmp_path: Path) -> None:
    missing = tmp_path / "plugins"
    assert plugin_status(missing).path is None
    folder = install_plugin(missing)
    status = plugin_status(missing)
    assert (status.path, status.version, status.problem) == (folder, __version__, None)


def test_a_skew_of_versions_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    install.warn_of_skew.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            install.warn_of_skew("0.0.1")
            install.warn_of_skew(__version__)
    assert [("0.0.1" in r.message, "isoclip install" in r.message) for r in caplog.records] == [
        (True, True)
    ]
