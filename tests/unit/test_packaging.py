"""What is shipped: one version everywhere, one list of requirements, and a wheel that is whole."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fiftyone_isoclip import __version__


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*command, folder], cwd=repo_root, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def requirements(lines: list[str]) -> dict[str, str]:
    """Name -> bounds, in one spelling."""
    parts = (re.match(r"([\w.-]+)\s*(.*)", line) for line in lines)
    found = {match[1].lower().replace("_", "-"): match[2].split(";")[0] for match in parts if match}
    return {name: ",".join(sorted(bounds.strip().split(","))) for name, bounds in found.items()}


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    shown = subprocess.run(
        ["git", "ls-files", "fiftyone_isoclip"], cwd=repo_root, capture_output=True, text=True
    )
    if shown.returncode:
        pytest.skip("not a git checkout, so what belongs to the package cannot be listed")
    tracked = {name for name in shown.stdout.splitlines() if (repo_root / name).exists()}
    assert tracked - set(wheel.namelist()) == set()


def test_the_wheel_holds_what_isoclip_install_copies(
    wheel: zipfile.ZipFile, repo_root: Path
) -> None:
    inside = "fiftyone_isoclip/_plugin/"
    assert wheel.read(f"{inside}fiftyone.yml") == (repo_root / "fiftyone.yml").read_bytes()
    for asset in (repo_root / "assets").iterdir():
        assert wheel.read(f"{inside}assets/{asset.name}") == asset.read_bytes()


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"fiftyone_isoclip", f"fiftyone_isoclip-{__version__}.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_every_place_states_the_same_version(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    about = f"fiftyone_isoclip-{__version__}.dist-info/METADATA"
    stated = {
        "the wheel": Parser().parsestr(wheel.read(about).decode())["Version"],
        "fiftyone.yml": yaml.safe_load((repo_root / "fiftyone.yml").read_text())["version"],
        "CITATION.cff": yaml.safe_load((repo_root / "CITATION.cff").read_text())["version"],
    }
    assert stated == dict.fromkeys(stated, __version__)
    assert f"## {__version__}" in (repo_root / "CHANGELOG.md").read_text()


def test_the_plugins_requirements_are_the_packages(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    about = wheel.read(f"fiftyone_isoclip-{__version__}.dist-info/METADATA").decode()
    asked = Parser().parsestr(about).get_all("Requires-Dist") or []
    package = requirements([line for line in asked if "extra ==" not in line])
    plugin = requirements((repo_root / "requirements.txt").read_text().splitlines())
    assert plugin == {name: bounds for name, bounds in package.items() if name != "fiftyone"}


def test_every_requirement_has_a_version_that_was_tested(repo_root: Path) -> None:
    pinned = requirements((repo_root / "constraints.txt").read_text().splitlines())
    asked = requirements((repo_root / "requirements.txt").read_text().splitlines())
    assert set(asked) - set(pinned) == set()
    assert all(bounds.startswith("==") for bounds in pinned.values())


def asked_for(wheel: zipfile.ZipFile) -> list[Requirement]:
    """What the package, its extras and its development ask for."""
    about = wheel.read(f"fiftyone_isoclip-{__version__}.dist-info/METADATA").decode()
    return [Requirement(line) for line in Parser().parsestr(about).get_all("Requires-Dist") or []]


def test_every_pinned_version_is_within_the_bounds(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    pinned: dict[str, list[str]] = {}
    for line in (repo_root / "constraints.txt").read_text().splitlines():
        if not line.lstrip().startswith("#"):
            found = Requirement(line)
            (version,) = found.specifier
            pinned.setdefault(canonicalize_name(found.name), []).append(version.version)
    for asked in asked_for(wheel):
        versions = pinned.get(canonicalize_name(asked.name), [])
        assert versions, f"{asked} has no version in constraints.txt"
        assert all(asked.specifier.contains(version) for version in versions), str(asked)


def test_every_requirement_has_a_lower_bound_and_a_reason(
    wheel: zipfile.ZipFile, repo_root: Path
) -> None:
    assert [str(asked) for asked in asked_for(wheel) if ">=" not in str(asked.specifier)] == []
    text = (repo_root / "pyproject.toml").read_text()
    lines = text[text.index("\ndependencies = [") :].split("\n]", 1)[0].splitlines()[2:]
    assert len(lines) > 15 and [line for line in lines if "# " not in line] == []
